import { z } from '@hono/zod-openapi'

export const NAME_LENGTH_MAX = 100

/** Scripts in which a joiner, though invisible, is part of how a word is written. */
const JOINED =
  '\\p{scx=Arab}\\p{scx=Syrc}\\p{scx=Mong}\\p{scx=Deva}\\p{scx=Beng}\\p{scx=Guru}\\p{scx=Gujr}\\p{scx=Orya}\\p{scx=Taml}\\p{scx=Telu}\\p{scx=Knda}\\p{scx=Mlym}\\p{scx=Sinh}\\p{scx=Khmr}\\p{scx=Mymr}\\p{scx=Tibt}'
const JOINER = new RegExp(`(?<=[${JOINED}])[\\u200c\\u200d](?=[${JOINED}])`, 'gu')

/** Characters that are invisible, change the direction of text, or have no place in mails and logs. */
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cn}\p{Cs}\p{Default_Ignorable_Code_Point}\u2800]/u

/** Slashes and look-alikes. "s/o" and "a/l" between words are allowed: some names state the parent that way. */
const SLASH = /[/\\\u2044\u2215\u29f8]/
const CHILD_OF = /(?<!\S)\p{L}\/\p{L}(?!\S)/gu
/** Text that mail clients turn into a link, even without a scheme: "evil.example", but not "St.John" or "J.R." */
const DOMAIN = /[\p{L}\p{N}-]{2,}\.(\p{Ll}{2,}|\p{Lo}{2,}|\p{Lu}{2,})/u

/** The fault of a text that displays as nothing or as other text; null if none. For names and labels of all kinds. */
const labelFault = (text: string): string | null =>
  INVISIBLE.test(text.replace(JOINER, '')) ? 'must not have control or invisible characters' : null

/** The fault of a person's name; null if it is valid. Names may be of any script, and of one letter. */
export const nameFault = (name: string): string | null => {
  const fault = labelFault(name)
  if (fault) return fault
  if (!/\p{L}/u.test(name)) return 'must have at least 1 letter'
  // NFKC, because full-width characters look the same.
  const plain = name.normalize('NFKC').replace(CHILD_OF, ' ')
  if (plain.includes('@') || SLASH.test(plain) || /\bwww\./i.test(plain) || DOMAIN.test(plain)) {
    return 'must not look like a link or an address'
  }
  return null
}

const refusing =
  (faultOf: (text: string) => string | null) =>
  (context: z.core.ParsePayload<string>): void => {
    const fault = faultOf(context.value)
    if (fault) context.issues.push({ code: 'custom', message: fault, input: context.value })
  }

/** For the OpenAPI document, whose patterns have no flags: only syntax that every pattern engine supports. */
const PATTERN = '^[^\\u0000-\\u001f\\u007f-\\u009f\\u2028\\u2029]*$'

/** A person's name as it is shown to others: 1 to 100 characters. */
export const fullName = z
  .string()
  .trim()
  .min(1, 'must have at least 1 character')
  .max(NAME_LENGTH_MAX, `must have at most ${NAME_LENGTH_MAX} characters`)
  .check(refusing(nameFault))
  .openapi({ example: 'Alice Smith', pattern: PATTERN })

/** A label that a user gives to an object of theirs, such as an API key. */
export const label = (lengthMax: number) =>
  z.string().trim().min(1).max(lengthMax).check(refusing(labelFault)).openapi({ pattern: PATTERN })
