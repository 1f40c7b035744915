/** Reads and writes the page's address: a room, and in a link also a token. */

/** A valid name after `room:` in a topic (docs/protocol.md, section 1). */
const ROOM = /^[A-Za-z0-9._~@-]+(:[A-Za-z0-9._~@-]+)*$/;
const MAX_ROOM = 200;
const INVITATION = /^[\w-]{1,256}$/;
const TOKEN = /^[\w-]+\.[\w-]+\.[\w-]*$/;

export function isRoom(text) {
  return text.length <= MAX_ROOM && ROOM.test(text);
}

export function isToken(text) {
  return TOKEN.test(text);
}

export function topicOf(room) {
  return `room:${room}`;
}

/** Return the room of a topic, or null for other topics. */
export function roomOf(topic) {
  return topic.startsWith("room:") ? topic.slice("room:".length) : null;
}

export function webSocketUrl() {
  const url = new URL("ws", document.baseURI);
  url.protocol = url.protocol.replace("http", "ws");
  url.search = url.hash = "";
  return url.href;
}

/** Return the address of a room, or of a message in a room, on this page. */
export function permalink(room, seq = null) {
  const place = `#room=${encodeURIComponent(room)}`;
  return seq === null ? place : `${place}&seq=${seq}`;
}

/** Return the parts of the address, and remove secrets, which others could see. */
export function takeFragment() {
  const values = new URLSearchParams(location.hash.slice(1));
  const [token, room, seq] = [values.get("token"), values.get("room"), Number(values.get("seq"))];
  const invitation = values.get("invitation");
  if (token !== null || invitation !== null) history.replaceState(null, "", location.pathname + location.search);
  return {
    token: token !== null && isToken(token) ? token : null,
    room: room !== null && isRoom(room) ? room : null,
    seq: Number.isSafeInteger(seq) && seq > 0 ? seq : null,
    invitation: invitation !== null && INVITATION.test(invitation) ? invitation : null,
  };
}

/** Show a room, or a message in a room, in the address; with `isNew` Back returns to the address before. */
export function showAddress(room, seq = null, isNew = false) {
  const hash = permalink(room, seq);
  if (location.hash === hash) return;
  if (isNew) history.pushState(null, "", hash);
  else history.replaceState(null, "", hash);
}
