/** Messages that grow while somebody, a model for example, writes them. */
import type { Grown } from "./client-types.js";
/** The streams of one client: paces appends, and receives requests to cancel. */
export declare class Streams {
    #private;
    /**
     * @param {import("./client-outbox.js").Outbox} outbox
     * @param {function} limits returns `welcome.limits`, undefined without a connection.
     */
    constructor(outbox: import("./client-outbox.js").Outbox, limits: Function);
    /** Publish a streaming message; resolves to its `Stream`. */
    open(topic: any, data: any): Promise<Stream>;
    /** Forget a stream that has ended. */
    over(stream: any): void;
    /** Take a signal of a subscribed topic. */
    heard({ topic, data }: {
        data: any;
        topic: any;
    }): void;
    /** Wait until another append fits into the server's rate. */
    turn(): Promise<any> | undefined;
    /** Wait for a while, or until the client is closed. */
    pause(ms: any): Promise<any>;
    /** End all waits, present and future: the outbox then rejects, because the client is closed. */
    end(): void;
}
/**
 * A streaming message; made by `ChatClient.stream`.
 *
 * Text written while an append is under way leaves with the next append, so that a fast writer stays
 * within the server's rate limit.
 */
export declare class Stream {
    #private;
    /** @type {string} */
    topic: string;
    /** @type {number} */
    seq: number;
    /** @type {string} */
    epoch: string;
    /** Whether a user has asked, by the signal `{cancel: seq}`, to end the message. */
    cancelled: boolean;
    /**
     * The initial text, and behind it the stored text of this stream. Edits by other users do not change
     * `text`.
     *
     * @type {string}
     */
    text: string;
    /**
     * Add to the message's text; resolves at once unless the buffer is full.
     *
     * The promise is rejected if the message has ended, or if an earlier text could not be stored.
     *
     * @param {string} text
     * @returns {Promise<void>}
     */
    write(text: string): Promise<void>;
    /**
     * Store the buffer and end the message; resolves to the answer to the last append.
     *
     * A cancelled message ends as cancelled.
     *
     * @returns {Promise<Grown>}
     */
    complete(): Promise<Grown>;
    /**
     * Store the buffer and end the message as cancelled, that is, incomplete.
     *
     * @returns {Promise<Grown>}
     */
    cancel(): Promise<Grown>;
}
