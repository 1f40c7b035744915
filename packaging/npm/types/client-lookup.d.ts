/** Looks in history for what was sent and never answered, once its key may be forgotten. */
import { ChatError } from "./client-common.js";
export declare function unknown(why: any): ChatError;
/**
 * Look in history for what became of a command.
 *
 * Returns what the server would have answered; null if it is certain that nothing is stored; or
 * undefined if that is not known, but a repetition is harmless.
 *
 * @param {import("./client-connection.js").Connection} connection
 * @param {any} sent `command`; the `position` that its topic had at least when it was sent, if it
 *   is known; and of an append whose message nobody else writes, what was `before`: `{text}`.
 * @param {function} isEmptyBehind whether nothing was stored behind a position.
 */
export declare function lookUp(connection: import("./client-connection.js").Connection, sent: any, isEmptyBehind: Function): Promise<{
    topic: any;
    seq: any;
    epoch: any;
    at: any;
    duplicate: boolean;
} | null | undefined>;
