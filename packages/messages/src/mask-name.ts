/** What stands for the rest of a name, however long that is. */
const HIDDEN = '***'
const graphemes = new Intl.Segmenter(undefined, { granularity: 'grapheme' })

/** The first letter as people see it, with its marks; empty where nothing comes after it that stays hidden. */
const initialOf = (word: string): string => {
  const [first, next] = graphemes.segment(word)
  return first && /\p{L}/u.test(word.slice(next?.index ?? word.length)) ? first.segment : ''
}

/** A name as strangers see it: "Alice Smith" is "Alice S.", "Anna" is "A***"; never the whole of it. */
export const maskName = (fullName: string): string => {
  const words = fullName.trim().split(/\s+/)
  const initial = initialOf(words.at(-1)!)
  if (words.length === 1) return `${initial}${HIDDEN}`
  return `${words[0]} ${initial === '' ? HIDDEN : `${initial.toUpperCase()}.`}`
}
