import { createHmac } from 'node:crypto'

/** How secrets begin, by Standard Webhooks 1.0.0: what follows is their bytes in base64. */
const SECRET_PREFIX = 'whsec_'

/**
 * The headers of a delivery by Standard Webhooks 1.0.0 (https://www.standardwebhooks.com): its id, the time of this try in
 * seconds, and an HMAC-SHA-256 over both and the body by each secret that is in force.
 */
export const signedHeaders = (
  secrets: string[],
  { id, atSeconds, body }: { id: string; atSeconds: number; body: string },
): Record<string, string> => ({
  'webhook-id': id,
  'webhook-timestamp': String(atSeconds),
  'webhook-signature': secrets
    .map(secret => {
      const key = Buffer.from(secret.slice(SECRET_PREFIX.length), 'base64')
      return `v1,${createHmac('sha256', key).update(`${id}.${atSeconds}.${body}`).digest('base64')}`
    })
    .join(' '),
})
