/** Looks in history for an unanswered command, once the server may have forgotten the key. */
import { ChatError } from "./client-common.js";
export declare function unknown(why: any): ChatError;
/**
 * Look in history for the outcome of a command.
 *
 * Returns the answer that was lost; null if the command is certainly not stored; or undefined if the
 * outcome is unknown but a repetition is harmless.
 *
 * @param {import("./client-connection.js").Connection} connection
 * @param {any} sent `command`; `position`, the lowest position of the topic at the time of sending, if
 *   known; and for an append by the only writer, `before`: the message's `{text}` before the append.
 * @param {function} isEmptyBehind whether nothing was stored behind a position.
 */
export declare function lookUp(connection: import("./client-connection.js").Connection, sent: any, isEmptyBehind: Function): Promise<{
    topic: any;
    seq: any;
    epoch: any;
    at: any;
    duplicate: boolean;
} | null | undefined>;
