import { z } from 'zod'

const MIN_KEY_BYTES = 32

const macKey = z
  .object({
    kid: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, 'must be 1 to 64 of A-Z a-z 0-9 _ -'),
    key: z.base64url(),
  })
  .transform(({ kid, key }) => ({ kid, key: Buffer.from(key, 'base64url') }))
  .refine(({ key }) => key.length >= MIN_KEY_BYTES, `key must have at least ${MIN_KEY_BYTES} bytes`)

/** Keys of a MAC that several services compute: one, or `{"keys": [...]}`, of which the first signs and all verify. */
export const macKeys = z
  .union([
    macKey.transform(key => [key]),
    z.object({ keys: z.array(macKey).min(1) }).transform(({ keys }) => keys),
  ])
  .refine(keys => new Set(keys.map(({ kid }) => kid)).size === keys.length, 'two keys have one kid')
export type MacKeys = z.output<typeof macKeys>
