/** Asks questions with the answers yes and no. */

const $ = (id) => document.getElementById(id);

/**
 * Ask a question made of texts and nodes; a second question replaces the first.
 *
 * Resolves to whether the answer was yes.
 */
export function ask({ question, no, yes }) {
  const dialog = $("ask");
  if (dialog.open) dialog.close();
  $("question").replaceChildren(...question);
  $("no").replaceChildren(...no);
  $("yes").replaceChildren(...yes);
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => {
      // The end of the first question is told while the second is asked.
      if (!dialog.open) resolve(dialog.returnValue === "yes");
    };
  });
}
