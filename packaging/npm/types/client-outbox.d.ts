/** The browser client's commands that store something, kept until each outcome is known. */
/**
 * Sends the commands of each topic one after the other, and different topics side by side.
 *
 * Each command's promise is exact: the promise resolves if the command is stored, once. The promise is
 * rejected with `mayBeSent` false if the command is not stored, and with true if the outcome is unknown.
 */
export declare class Outbox {
    #private;
    /** @param {import("./client-topics.js").Topics} topics knows where subscribed topics stand. */
    constructor(topics: import("./client-topics.js").Topics);
    /**
     * Send a command until the outcome is known; resolves to the answer.
     *
     * @param {object} command without `id` and `key`.
     * @param {object} [options]
     * @param {string} [options.key] the idempotency key.
     * @param {function} [options.onDelay] called with the `ChatError` that makes the command wait.
     * @param {object} [options.before] for an append by the message's only writer: the message's `{text}`
     *   before the append.
     */
    add(command: object, { key, onDelay, before }?: {
        key?: string;
        onDelay?: Function;
        before?: object;
    }): Promise<any>;
    connected(connection: any): void;
    disconnected(): void;
    /** Reject all commands, later ones too. */
    end(error: any): void;
}
