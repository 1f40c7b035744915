/** Schedules the browser client's reconnections: backoff, or the server's `retry_in_ms`. */
export declare class Pace {
    #private;
    /** The server has accepted the client. */
    welcomed(): void;
    /**
     * Return the milliseconds until the next attempt.
     *
     * @param {object} [ending] how the last connection ended.
     * @param {number} [ending.code] its code, of the goodbye if there was one.
     * @param {number} [ending.askedMs] what the server asked for; it grows if that does not help.
     * @param {number | null} [ending.lastedMs]
     */
    wait({ code, askedMs, lastedMs }?: {
        code?: number;
        askedMs?: number;
        lastedMs?: number | null;
    }): number;
    /** Count a refusal of a fresh token; return whether it was one too many. */
    isRefusedForGood(): boolean;
    /**
     * Return whether a wait may be cut short now.
     *
     * Not if the server has said when: the client may be one of very many that it sent away.
     */
    mayHurry(): boolean;
}
