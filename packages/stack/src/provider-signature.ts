import { createHmac, timingSafeEqual } from 'node:crypto'

const TOLERANCE_S = 5 * 60

const macOf = (secret: string, time: number, body: string) =>
  createHmac('sha256', secret).update(`${time}.${body}`).digest()

/** The value of `Provider-Signature` for a body as sent; `now` in unix seconds. */
export const signBody = (secret: string, body: string, now: number): string =>
  `t=${now},v1=${macOf(secret, now, body).toString('hex')}`

/** Why a signature is refused, or undefined if it is valid and at most five minutes off; `now` in unix seconds. */
export const findSignatureFault = (
  secret: string,
  body: string,
  header: string | undefined,
  now: number,
): string | undefined => {
  if (!header) return 'Provider-Signature is missing.'
  const [, time, mac] = /^t=(\d{1,12}),v1=([0-9a-f]{64})$/.exec(header) ?? []
  if (!time || !mac) return 'Provider-Signature must be t=<unix seconds>,v1=<hex hmac-sha256 of "t.body">.'
  if (!timingSafeEqual(Buffer.from(mac, 'hex'), macOf(secret, Number(time), body)))
    return 'Provider-Signature does not fit this body and secret.'
  if (Math.abs(now - Number(time)) > TOLERANCE_S) return 'Provider-Signature is more than five minutes off.'
  return undefined
}
