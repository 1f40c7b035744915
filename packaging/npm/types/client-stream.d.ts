/** Messages that grow while somebody, a model for example, writes them. */
import type { Grown } from "./client-types.js";
/** The growing messages of one client: paces their appends, and hears that they are to end. */
export declare class Streams {
    #private;
    /**
     * @param {import("./client-outbox.js").Outbox} outbox
     * @param {function} limits returns `welcome.limits`, undefined without a connection.
     */
    constructor(outbox: import("./client-outbox.js").Outbox, limits: Function);
    /** Publish a message that will grow; resolves to its `Stream`. */
    open(topic: any, data: any): Promise<Stream>;
    /** Forget a stream that has ended. */
    over(stream: any): void;
    /** Hear a signal of a topic that is subscribed to. */
    heard({ topic, data }: {
        data: any;
        topic: any;
    }): void;
    /** Wait until another append fits into the server's rate. */
    turn(): Promise<any> | undefined;
    /** Wait for a while, or until the client is closed. */
    pause(ms: any): Promise<any>;
    /** Wake all who wait, and let nobody wait any more: the outbox tells them that the client is closed. */
    end(): void;
}
/**
 * A message that grows; made by `ChatClient.stream`.
 *
 * What is written while an append is under way leaves with the next one, so that a fast writer stays
 * within the server's rate.
 */
export declare class Stream {
    #private;
    /** @type {string} */
    topic: string;
    /** @type {number} */
    seq: number;
    /** @type {string} */
    epoch: string;
    /** Whether somebody has asked, by the signal `{cancel: seq}`, that the message end. */
    cancelled: boolean;
    /**
     * What this stream has written and the server has stored, behind the text that it began with. It stays
     * that when somebody edits the message meanwhile.
     *
     * @type {string}
     */
    text: string;
    /**
     * Add to the message's text; resolves at once unless too much waits to be sent.
     *
     * It is rejected if the message has ended, or if an earlier text could not be stored.
     *
     * @param {string} text
     * @returns {Promise<void>}
     */
    write(text: string): Promise<void>;
    /**
     * Store what waits and end the message; resolves to what its last append was answered.
     *
     * A message that somebody has cancelled ends as cancelled.
     *
     * @returns {Promise<Grown>}
     */
    complete(): Promise<Grown>;
    /**
     * Store what waits and end the message, as one that is not complete.
     *
     * @returns {Promise<Grown>}
     */
    cancel(): Promise<Grown>;
}
