/** Asks for a topic's position by HTTP, because no command of the WebSocket returns a position. */
/**
 * Read a topic's position; resolves to `{epoch, seq}`.
 *
 * @param {string} url the address of the WebSocket: `…/api` stands where `…/ws` stands.
 * @param {string} token
 * @param {string} topic
 * @param {AbortSignal} closed ends the request with the client.
 */
export declare function readPosition(url: string, token: string, topic: string, closed: AbortSignal): Promise<{
    epoch: any;
    seq: any;
}>;
