/** The subscriptions of the browser client, over any number of connections. */
import type { Position, Presence } from "./client-types.js";
/** @import { Position, Presence, SubscribeOptions } from "./client-types.js" */
/** One topic's events; made by `ChatClient.subscribe`. */
export declare class Subscription {
    #private;
    /** @type {string} */
    topic: string;
    /**
     * The position of the last received event, or null before the first answer.
     *
     * @type {Position | null}
     */
    position: Position | null;
    /**
     * With the option `presence`, the users present when the connection subscribed, else null.
     *
     * @type {Presence | null}
     */
    presence: Presence | null;
}
/** Reconciles the server's subscriptions with the application's. */
export declare class Topics {
    #private;
    add(topic: any, options: any): any;
    remove(subscription: any): void;
    /** Return the position of the application's subscription to a topic, if known. */
    position(topic: any): any;
    /** Return the position at which this connection's subscription began, if any. */
    accepted(topic: any): any;
    connected(connection: any): void;
    disconnected(): void;
    /** Take a message that answers no command. */
    receive(message: any): void;
}
