import { z } from '@hono/zod-openapi'

export const NAME_LENGTH_MAX = 100

/** Scripts in which a joiner, though invisible, is part of how a word is written. */
const JOINED =
  '\\p{scx=Arab}\\p{scx=Syrc}\\p{scx=Mong}\\p{scx=Deva}\\p{scx=Beng}\\p{scx=Guru}\\p{scx=Gujr}\\p{scx=Orya}\\p{scx=Taml}\\p{scx=Telu}\\p{scx=Knda}\\p{scx=Mlym}\\p{scx=Sinh}\\p{scx=Khmr}\\p{scx=Mymr}\\p{scx=Tibt}'
const JOINER = new RegExp(`(?<=[${JOINED}])[\\u200c\\u200d](?=[${JOINED}])`, 'gu')

/** What has no shape, turns the text around it, or has no place in mails and logs. */
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cn}\p{Cs}\p{Default_Ignorable_Code_Point}\u2800]/u

/** Solidi that look like one; "s/o" and "a/l" between words are how some names say whose child somebody is. */
const SLASH = /[/\\\u2044\u2215\u29f8]/
const CHILD_OF = /(?<!\S)\p{L}\/\p{L}(?!\S)/gu
/** What mail programs make a link of, even without a scheme: "evil.example", but not "St.John" or "J.R." */
const DOMAIN = /[\p{L}\p{N}-]{2,}\.(\p{Ll}{2,}|\p{Lo}{2,}|\p{Lu}{2,})/u

/** Why a text would not be seen, or not be seen as it is; null where it is fine. For names and labels of all kinds. */
const labelFault = (text: string): string | null =>
  INVISIBLE.test(text.replace(JOINER, '')) ? 'must not have control or invisible characters' : null

/** Why a text is no name of a person; null where it may be one. Names are of any script, and of one letter too. */
export const nameFault = (name: string): string | null => {
  const fault = labelFault(name)
  if (fault) return fault
  if (!/\p{L}/u.test(name)) return 'must have at least 1 letter'
  // In full width it looks the same.
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

/** In the document, whose patterns have no flags, only what every reader of patterns understands. */
const PATTERN = '^[^\\u0000-\\u001f\\u007f-\\u009f\\u2028\\u2029]*$'

/** A person's name as it is shown to others: 1 to 100 characters. */
export const fullName = z
  .string()
  .trim()
  .min(1, 'must have at least 1 character')
  .max(NAME_LENGTH_MAX, `must have at most ${NAME_LENGTH_MAX} characters`)
  .check(refusing(nameFault))
  .openapi({ example: 'Alice Smith', pattern: PATTERN })

/** What somebody calls a thing of theirs. */
export const label = (lengthMax: number) =>
  z.string().trim().min(1).max(lengthMax).check(refusing(labelFault)).openapi({ pattern: PATTERN })
