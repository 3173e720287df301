import { Secret, TOTP } from 'otpauth'

/** The parameters that every authenticator app supports (RFC 6238): some apps ignore other values. */
const FORM = { algorithm: 'SHA1', digits: 6, period: 30 } as const
const SECRET_BYTES = 20 // as long as SHA-1's output: RFC 4226, section 4
/** How many steps a code may be early or late, because clocks differ and typing takes time. */
const WINDOW = 1

/** A new secret for an authenticator. */
export const newTotpSecret = (): Buffer => Buffer.from(new Secret({ size: SECRET_BYTES }).bytes)

const totpOf = (secret: Buffer, names: { issuer?: string; label?: string } = {}) =>
  new TOTP({ ...FORM, ...names, secret: new Secret({ buffer: new Uint8Array(secret).buffer }) })

/** The secret as people type it (base32), and as the URL that a QR code shows. */
export const presentTotpSecret = (
  secret: Buffer,
  names: { issuer: string; label: string },
): { secret: string; otpauthUrl: string } => {
  const totp = totpOf(secret, names)
  return { secret: totp.secret.base32, otpauthUrl: totp.toString() }
}

/** The 30-second step of a code, the present one or a neighbour; undefined if the code is wrong. */
export const totpStepOf = (secret: Buffer, code: string, now: number): number | undefined => {
  // The library compares bytes, and throws if six characters are more than six bytes.
  if (!/^[0-9]{6}$/.test(code)) return undefined
  const delta = totpOf(secret).validate({ token: code, timestamp: now, window: WINDOW })
  return delta === null ? undefined : Math.floor(now / 1_000 / FORM.period) + delta
}
