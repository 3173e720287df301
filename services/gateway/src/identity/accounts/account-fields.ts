import { z } from '@hono/zod-openapi'
import type { User } from '../persons/sql/users.ts'

/** bcrypt receives only a digest, but computing it must stay cheap; the password rules allow 128 characters. */
const PASSWORD_INPUT_MAX = 1_024
/** A password as it is typed in; the rules for new ones are in passwords.ts. */
export const password = z
  .string()
  .max(PASSWORD_INPUT_MAX)
  .openapi({ example: 'Correct-Horse-7', format: 'password' })
const EXTERNAL_TOKEN_LENGTH_MAX = 8_192
/** A JWT of a trusted issuer. */
export const externalToken = z.string().min(1).max(EXTERNAL_TOKEN_LENGTH_MAX).openapi({
  example: 'eyJhbGciOiJSUzI1NiIsImtpZCI6InNzby0xIn0.eyJpc3MiOiJodHRwczovL3Nzby5leGFtcGxlIn0.c2ln',
})

/** An account, as its owner sees it. */
export const account = z
  .object({ id: z.uuid(), email: z.string(), fullName: z.string(), emailVerified: z.boolean() })
  .openapi('Account', {
    example: {
      id: '5b0e7f6c-2a43-4d9e-9c63-6f5a1c0a7f11',
      email: 'alice@example.com',
      fullName: 'Alice Smith',
      emailVerified: false,
    },
  })

export const accountOf = ({ id, email, fullName, emailVerified }: User) => ({
  id,
  email,
  fullName,
  emailVerified,
})
