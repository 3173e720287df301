import type { Database } from '@pennywire/runtime/database.ts'
import { Secret, TOTP } from 'otpauth'

export type StaffSession = { token: string; stepUp: string; secret: string }

/**
 * Signs in a person with a staff role and the second factor, which is turned on if `secret` is missing; `stepUp` is the
 * token for staff routes. A code is valid once in 30 seconds: last_step is reset in the database to avoid waiting.
 */
export const signInStaff = async (
  at: { gatewayUrl: string; sql: Database },
  person: { userId: string; email: string; password: string; secret?: string | undefined },
): Promise<StaffSession> => {
  const { userId, email, password } = person
  // biome-ignore lint/suspicious/noExplicitAny: answers of every shape
  const post = async (path: string, body: object, token?: string): Promise<any> => {
    const response = await fetch(`${at.gatewayUrl}/v1/auth/${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...(token ? { authorization: `Bearer ${token}` } : {}) },
      body: JSON.stringify(body),
    })
    const answer = await response.json()
    if (!response.ok) throw new Error(`${path}: ${response.status} ${JSON.stringify(answer)}`)
    return answer
  }
  const codeOf = async (secret: string) => {
    await at.sql`update gateway.second_factors set last_step = 0 where user_id = ${userId}`
    return new TOTP({ secret: Secret.fromBase32(secret) }).generate()
  }

  let { secret } = person
  const login = await post('login', { email, password })
  let session = login
  if (secret !== undefined) {
    const { challengeToken } = login
    session = await post('2fa/verify', { challengeToken, code: await codeOf(secret) })
  } else {
    const offer = await post('2fa/enable', { password }, login.accessToken)
    secret = offer.secret as string
    await post('2fa/confirm', { code: await codeOf(secret) }, login.accessToken)
    session = await post('refresh', { refreshToken: login.refreshToken })
  }
  const token = session.accessToken as string
  const { stepUpToken } = await post('2fa/step-up', { code: await codeOf(secret) }, token)
  return { token, stepUp: stepUpToken, secret }
}
