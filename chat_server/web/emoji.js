/** Emoji by name: `:` and the beginning of a name before the cursor propose them. */

/** The emoji for reactions with one press. */
export const QUICK = ["👍", "❤️", "😂", "🎉", "😮", "😢"];

const TABLE = `👍 thumbsup 👎 thumbsdown 👍 +1 👎 -1 ❤️ heart 💔 broken_heart 😂 joy 🎉 tada 😮 open_mouth 😢 cry 😄 smile 😀 grinning 😉 wink 😊 blush
😍 heart_eyes 😘 kissing_heart 😎 sunglasses 🤔 thinking 😐 neutral 🙄 eye_roll 😴 sleeping 😅 sweat_smile 🤣 rofl 🙂 slight_smile
🙃 upside_down 😭 sob 😡 rage 😱 scream 🤯 mind_blown 🥳 party 🤗 hug 🤷 shrug 🤦 facepalm 🙏 pray 👏 clap 🙌 raised_hands
👋 wave 💪 muscle 👀 eyes 👌 ok_hand ✌️ victory 🤞 fingers_crossed 🤝 handshake 👉 point_right 🔥 fire ✨ sparkles ⭐ star 💯 hundred
✅ check ❌ cross ⚠️ warning ❓ question ❗ exclamation 💡 bulb 🐛 bug 🚀 rocket 🎂 cake ☕ coffee 🍕 pizza 🍻 beers ☀️ sun 🌙 moon
⏰ clock 📅 calendar 📎 paperclip 🔒 lock 🤖 robot 🐱 cat 🐶 dog`;
const words = TABLE.split(/\s/u);
const NAMES = new Map(words.flatMap((word, at) => (at % 2 ? [[word, words[at - 1]]] : [])));
const LONGEST = 24;
const BEGUN = /(?:^|\s):([a-z_]{2,}|[+-]1)(:?)$/iu;

/** Propose emoji for a completion, as `Completion` asks for it. */
export function proposeEmoji(text, cursor) {
  const [found, begun, end] = BEGUN.exec(text.slice(Math.max(cursor - LONGEST, 0), cursor)) ?? [];
  if (!found) return null;
  const letters = begun.toLowerCase();
  const start = cursor - found.trimStart().length;
  if (end && NAMES.has(letters)) return { start, whole: NAMES.get(letters) };
  const proposals = [...NAMES]
    .filter(([name]) => name.includes(letters))
    .sort(([one], [other]) => other.startsWith(letters) - one.startsWith(letters))
    .map(([name, emoji]) => ({ label: emoji, hint: `:${name}:`, text: `${emoji} ` }));
  return { start, proposals };
}
