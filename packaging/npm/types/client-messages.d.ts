/** Messages in their current state: the events of a topic, folded together. */
import type { Change, ChatEvent, Message } from "./client-types.js";
/**
 * Return whether an event changes the message that its `target` names.
 *
 * @param {ChatEvent} event
 * @returns {event is Change}
 */
export declare function isChange(event: ChatEvent): event is Change;
/**
 * Return a message after an event, as a new object unless nothing changes.
 *
 * The message's `version` (or else `seq`) names the last event in the message, so an answer to
 * `history` and a push may arrive in either order.
 *
 * @param {Message} message
 * @param {ChatEvent} event
 * @returns {Message}
 */
export declare function changed(message: Message, event: ChatEvent): Message;
/**
 * The newest messages of a topic, as the events of a subscription have made them.
 *
 *     const messages = new Messages();
 *     chat.subscribe("room:lobby", { last: 50, onEvent: (event) => messages.apply(event) });
 *
 * Messages are replaced, never changed in place. A `gap` empties the collection, because missed events
 * may be changes; `add` restores messages from history.
 */
export declare class Messages {
    #private;
    /** @param {number} [limit] messages held at most; the oldest are dropped. */
    constructor(limit?: number);
    /** @returns {number} */
    get size(): number;
    /**
     * Iterate over the messages, the oldest first.
     *
     * @returns {IterableIterator<Message>}
     */
    [Symbol.iterator](): IterableIterator<Message>;
    /**
     * Return the message `seq` in its current state, or undefined if the collection lacks it.
     *
     * @param {number} seq
     * @returns {Message | undefined}
     */
    get(seq: number): Message | undefined;
    /**
     * Take the next event of the topic; return the new or changed message, if any.
     *
     * @param {ChatEvent} event
     * @returns {Message | undefined}
     */
    apply(event: ChatEvent): Message | undefined;
    /**
     * Add messages, from history for example; the later version of each message counts.
     *
     * @param {Iterable<Message>} messages
     */
    add(messages: Iterable<Message>): void;
}
