/** What the browser client was told to store, until it is known what became of it. */
/**
 * Sends the commands of each topic one after the other, and those of several topics side by side.
 *
 * The promise of each says the truth: it resolves if the message or change is stored, once; it is
 * rejected with `mayBeSent` false if it is not stored, and with `mayBeSent` true if nobody can know.
 */
export declare class Outbox {
    #private;
    /** @param {import("./client-topics.js").Topics} topics knows where subscribed topics stand. */
    constructor(topics: import("./client-topics.js").Topics);
    /**
     * Send a command until its outcome is known; resolves to the answer.
     *
     * @param {object} command without `id` and `key`.
     * @param {object} [options]
     * @param {string} [options.key] what the server knows a repetition by.
     * @param {function} [options.onDelay] called with the `ChatError` for which it has to wait.
     * @param {object} [options.before] of an append whose message nobody else writes: the message's
     *   `{text}` before it.
     */
    add(command: object, { key, onDelay, before }?: {
        key?: string;
        onDelay?: Function;
        before?: object;
    }): Promise<any>;
    connected(connection: any): void;
    disconnected(): void;
    /** Reject everything, also what is added later. */
    end(error: any): void;
}
