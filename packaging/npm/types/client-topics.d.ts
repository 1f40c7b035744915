/** The subscriptions of the browser client, over any number of connections. */
import type { Position, Presence } from "./client-types.js";
/** @import { Position, Presence, SubscribeOptions } from "./client-types.js" */
/** One topic's events; made by `ChatClient.subscribe`. */
export declare class Subscription {
    #private;
    /** @type {string} */
    topic: string;
    /**
     * Where the last event that came stands, or null before the first answer.
     *
     * @type {Position | null}
     */
    position: Position | null;
    /**
     * With the option `presence`, who was there when the connection subscribed, else null.
     *
     * @type {Presence | null}
     */
    presence: Presence | null;
}
/** Brings the server's subscriptions in line with those the application wants. */
export declare class Topics {
    #private;
    add(topic: any, options: any): any;
    remove(subscription: any): void;
    /** Return where the application's subscription to a topic stands, if that is known. */
    position(topic: any): any;
    /** Return where the topic stood when this connection's subscription began, if there is one. */
    accepted(topic: any): any;
    connected(connection: any): void;
    disconnected(): void;
    /** Take a message that answers no command. */
    receive(message: any): void;
}
