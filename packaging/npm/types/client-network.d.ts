/** Listens to changes of the page's network, and to freezing and resuming of the page. */
/**
 * Listen to all available events: a Web Worker has no document, and Node has no such events at all.
 *
 * @param {AbortSignal} signal ends the listening.
 * @param {object} told
 * @param {() => void} told.onChange the network may be back or another one, and the page is visible.
 * @param {(patienceMs: number) => void} told.onLoss the browser reports a lost network.
 * @param {() => void} told.onLeave the page goes into the back/forward cache, from which an open connection
 *   would keep the page, or in which the connection would break.
 * @param {() => void} told.onReturn the page may be shown again.
 */
export declare function watchNetwork(signal: AbortSignal, { onChange, onLoss, onLeave, onReturn }: {
    onChange: () => void;
    onLoss: (patienceMs: number) => void;
    onLeave: () => void;
    onReturn: () => void;
}): void;
