/** The tokens of the browser client: one text, or what a function returns. */
/** Asks the application for tokens, and waits no longer than it may take and the client lasts. */
export declare class Tokens {
    #private;
    /**
     * @param {string | (() => string | Promise<string>)} token
     * @param {number} timeoutMs how long the function may take.
     * @param {AbortSignal} closed aborted with the error that ends the client.
     */
    constructor(token: string | (() => string | Promise<string>), timeoutMs: number, closed: AbortSignal);
    /** Whether there can be another token than the first. */
    get renewable(): boolean;
    /** Return a promise of a token; it is rejected with `token_failed`, or with the client's end. */
    fresh(): Promise<string>;
}
