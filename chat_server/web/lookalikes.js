/** Names that look the same in spite of different characters. */

/**
 * Letters and digits, and below each the lookalike: the rows of confusables.txt of Unicode TR 39 for Latin,
 * Cyrillic and Greek that everyday fonts do not tell apart.
 */
const ALIKE = "01I|ıЅІЈАВЕКМНОРСТУХагеорсухѕіјѵҮүһӀӏԁԛԜԝΑΒΕΖΗΙΚΜΝΟΡΤΥΧαγινορσυϲϳ";
const LATIN = "OllliSlJABEKMHOPCTYXareopcyxsijvYyhlldqWwABEZHlKMNOPTYXayivopoucj";
const folds = new Map();
[...ALIKE].forEach((letter, at) => folds.set(letter, LATIN[at]));

/** Return the common form of names that look alike: `skeleton` of Unicode TR 39, for some of its letters. */
export function skeleton(name) {
  const seen = name.normalize("NFKD").replace(/\p{Default_Ignorable_Code_Point}/gu, "").trim();
  return [...seen].map((letter) => folds.get(letter) ?? letter).join("").replaceAll("rn", "m");
}
