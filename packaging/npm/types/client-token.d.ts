/** The tokens of the browser client: one text, or the results of a function. */
/** Asks the application for tokens, with a timeout, and at most until the client's end. */
export declare class Tokens {
    #private;
    /**
     * @param {string | (() => string | Promise<string>)} token
     * @param {number} timeoutMs milliseconds that the function may take.
     * @param {AbortSignal} closed aborted with the error that ends the client.
     */
    constructor(token: string | (() => string | Promise<string>), timeoutMs: number, closed: AbortSignal);
    /** Whether the application can give further tokens. */
    get renewable(): boolean;
    /** Return a promise of a token; it is rejected with `token_failed`, or with the client's end. */
    fresh(): Promise<string>;
}
