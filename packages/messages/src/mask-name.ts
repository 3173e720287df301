/** How an erased person is shown. Their name is stored as the empty text, which no sign-up can choose. */
export const ERASED_NAME = 'Erased user'

/** Placeholder for the rest of a name, regardless of its length. */
const HIDDEN = '***'
const graphemes = new Intl.Segmenter(undefined, { granularity: 'grapheme' })

/** The first letter as people see it, with its marks; empty if no letter follows that stays hidden. */
const initialOf = (word: string): string => {
  const [first, next] = graphemes.segment(word)
  return first && /\p{L}/u.test(word.slice(next?.index ?? word.length)) ? first.segment : ''
}

/** Masks a name for strangers: "Alice Smith" becomes "Alice S.", "Anna" becomes "A***"; never the whole name. */
export const maskName = (fullName: string): string => {
  if (fullName === '') return ERASED_NAME
  const words = fullName.trim().split(/\s+/)
  const initial = initialOf(words.at(-1)!)
  if (words.length === 1) return `${initial}${HIDDEN}`
  return `${words[0]} ${initial === '' ? HIDDEN : `${initial.toUpperCase()}.`}`
}
