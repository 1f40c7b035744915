/** What a page hears of its network, and of being put away and taken out again. */
/**
 * Listen to what there is: a Web Worker has no document, and Node has neither.
 *
 * @param {AbortSignal} signal ends it.
 * @param {object} told
 * @param {() => void} told.onChange the network may be back or another one, and somebody looks.
 * @param {(patienceMs: number) => void} told.onLoss the network is said to be gone.
 * @param {() => void} told.onLeave the browser keeps the page for the Back button: with an open connection
 *   it would not, or would break that.
 * @param {() => void} told.onReturn the page may be shown again.
 */
export declare function watchNetwork(signal: AbortSignal, { onChange, onLoss, onLeave, onReturn }: {
    onChange: () => void;
    onLoss: (patienceMs: number) => void;
    onLeave: () => void;
    onReturn: () => void;
}): void;
