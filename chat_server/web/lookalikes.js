/** Names that look the same, though other characters are in them. */

/**
 * Letters and digits, and below each the one that it looks like: of confusables.txt of Unicode TR 39 those of Latin,
 * Cyrillic and Greek that fonts in everyday use do not tell apart.
 */
const ALIKE = "01I|ıЅІЈАВЕКМНОРСТУХагеорсухѕіјѵҮүһӀӏԁԛԜԝΑΒΕΖΗΙΚΜΝΟΡΤΥΧαγινορσυϲϳ";
const LATIN = "OllliSlJABEKMHOPCTYXareopcyxsijvYyhlldqWwABEZHlKMNOPTYXayivopoucj";
const folds = new Map();
[...ALIKE].forEach((letter, at) => folds.set(letter, LATIN[at]));

/** Return what is the same for names that look alike: the `skeleton` of Unicode TR 39, of a part of its letters. */
export function skeleton(name) {
  const seen = name.normalize("NFKD").replace(/\p{Default_Ignorable_Code_Point}/gu, "").trim();
  return [...seen].map((letter) => folds.get(letter) ?? letter).join("").replaceAll("rn", "m");
}
