/** Messages as they now are: what the events of a topic have made of them. */
import type { Change, ChatEvent, Message } from "./client-types.js";
/**
 * Return whether an event changes the message that its `target` names.
 *
 * @param {ChatEvent} event
 * @returns {event is Change}
 */
export declare function isChange(event: ChatEvent): event is Change;
/**
 * Return a message as an event leaves it, as a new object unless nothing changes.
 *
 * A message tells by its `version` (or else its `seq`) which event was the last that is part of it, so
 * it does not matter in which order an answer of `history` and a push arrive.
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
 * Messages are replaced, never changed in place. A `gap` empties the collection, because changes may
 * be among what was missed; `add` brings back what history still has.
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
     * Return the message `seq` as it now is, or undefined if it is not held.
     *
     * @param {number} seq
     * @returns {Message | undefined}
     */
    get(seq: number): Message | undefined;
    /**
     * Take the next event of the topic; return the message that it made or changed, if it did.
     *
     * @param {ChatEvent} event
     * @returns {Message | undefined}
     */
    apply(event: ChatEvent): Message | undefined;
    /**
     * Add messages, of history for example; of each the later version counts.
     *
     * @param {Iterable<Message>} messages
     */
    add(messages: Iterable<Message>): void;
}
