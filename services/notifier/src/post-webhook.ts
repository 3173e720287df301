// One POST to an address that a user chose: never into our own network, never elsewhere than asked, never for long, and never
// more of an answer than a log keeps.

import type { LookupAddress } from 'node:dns'
import { Resolver } from 'node:dns/promises'
import { Agent as HttpAgent, request as requestHttp } from 'node:http'
import { Agent as HttpsAgent, request as requestHttps } from 'node:https'
import type { LookupFunction } from 'node:net'
import { isIP } from 'node:net'
import type { Clock } from '@pennywire/runtime/clock.ts'
import ipaddr from 'ipaddr.js'

/** A whole try: connecting, sending, and the answer. */
const TOTAL_MS = 10_000
/** Of the answer so much is read and kept for the log; a longer one is cut off. */
const ANSWER_BYTES = 1_024
const IDLE_MS = 15_000

/** The code of a try that we ended because this notifier stops. */
export const STOPPED = 'STOPPED'

/** A refusal of ours, or a failure on the way: no answer came. */
export class NotPosted extends Error {
  readonly code: string

  constructor(code: string, message: string) {
    super(message)
    this.code = code
  }
}

export type Posted = {
  status: number
  answer: string
  /** Whether there was more of the answer than is read. */
  isCut: boolean
  retryAfter: string | undefined
}
/** `signal` ends a try that is under way: it rejects with STOPPED. */
export type PostWebhook = (
  url: string,
  headers: Record<string, string>,
  body: string,
  signal?: AbortSignal,
) => Promise<Posted>

const NAT64 = ipaddr.IPv6.parse('64:ff9b::')

/**
 * Whether an address may be posted to: one that is reached across the internet. Loopback, private, link-local, multicast and
 * reserved ranges are not, nor IPv6 addresses that carry such an IPv4 one (RFC 6890, RFC 6052).
 */
export const isPublicAddress = (address: string): boolean => {
  if (!ipaddr.isValid(address)) return false
  // `process` turns ::ffff:a.b.c.d into a.b.c.d.
  const parsed = ipaddr.process(address)
  // A local NAT64 (64:ff9b:1::/48) may carry the other address anywhere.
  if (parsed.range() === 'rfc6052' && parsed instanceof ipaddr.IPv6) {
    if (!parsed.match(NAT64, 96)) return false
    return isPublicAddress(parsed.toByteArray().slice(12).join('.'))
  }
  return parsed.range() === 'unicast'
}

/** Its own queries: `dns.lookup` waits in threads that all connections of the process share, and a slow name server holds them. */
const resolver = new Resolver({ timeout: 2_000, tries: 2 })

const resolveName = async (name: string): Promise<LookupAddress[]> => {
  const families = [
    resolver.resolve4(name).then(found => found.map(address => ({ address, family: 4 }))),
    resolver.resolve6(name).then(found => found.map(address => ({ address, family: 6 }))),
  ]
  const answers = await Promise.allSettled(families)
  return answers.flatMap(answer => (answer.status === 'fulfilled' ? answer.value : []))
}

/** Resolves a name at each connect and lets through only if all its addresses are public: the check is on what is connected to. */
const guardedLookup: LookupFunction = (hostname, options, callback) => {
  resolveName(hostname).then(
    addresses => {
      if (addresses.length === 0) return callback(new NotPosted('NAME_NOT_FOUND', 'no address'), '', 0)
      if (addresses.some(({ address }) => !isPublicAddress(address))) {
        return callback(new NotPosted('ADDRESS_NOT_ALLOWED', 'its address is not public'), '', 0)
      }
      if (options.all) return callback(null, addresses)
      return callback(null, addresses[0]!.address, addresses[0]!.family)
    },
    (error: NodeJS.ErrnoException) => callback(error, '', 0),
  )
}

/** `allowPrivate`: for development, http and addresses of the own network as well. */
export const createPostWebhook = ({
  allowPrivate,
  clock,
}: {
  allowPrivate: boolean
  clock: Clock
}): { post: PostWebhook; close: () => void } => {
  const options = { keepAlive: true, timeout: IDLE_MS, maxFreeSockets: 256 }
  const guard = allowPrivate ? {} : { lookup: guardedLookup }
  const [http, https] = [new HttpAgent({ ...options, ...guard }), new HttpsAgent({ ...options, ...guard })]

  const post: PostWebhook = (text, headers, body, signal) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(new NotPosted(STOPPED, 'not begun'))
      const url = new URL(text)
      const host = url.hostname.replace(/^\[|\]$/g, '')
      const isHttps = url.protocol === 'https:'
      if (!isHttps && !allowPrivate) return reject(new NotPosted('HTTPS_REQUIRED', 'https is required'))
      // An address needs no lookup, nor does this machine's own name, so both are checked here.
      const isOwn = host === 'localhost' || host.endsWith('.localhost')
      if (!allowPrivate && (isOwn || (isIP(host) && !isPublicAddress(host)))) {
        return reject(new NotPosted('ADDRESS_NOT_ALLOWED', 'its address is not public'))
      }
      const sent = (isHttps ? requestHttps : requestHttp)(
        url,
        {
          method: 'POST',
          agent: isHttps ? https : http,
          headers: {
            'content-type': 'application/json',
            'content-length': Buffer.byteLength(body),
            'user-agent': 'Pennywire-Webhooks/1',
            ...headers,
          },
        },
        response => {
          const chunks: Buffer[] = []
          let length = 0
          const end = () =>
            resolve({
              status: response.statusCode ?? 0,
              isCut: length > ANSWER_BYTES,
              answer: Buffer.concat(chunks).subarray(0, ANSWER_BYTES).toString('utf8').replaceAll('\0', ''),
              retryAfter: response.headers['retry-after'],
            })
          response.on('data', (chunk: Buffer) => {
            chunks.push(chunk)
            length += chunk.length
            if (length <= ANSWER_BYTES) return
            // An answer without end is cut off; the status has come.
            end()
            sent.destroy()
          })
          response.on('end', end)
          response.on('error', end)
        },
      )
      const cancel = clock.after(TOTAL_MS, () => sent.destroy(new NotPosted('TIMEOUT', 'no answer in time')))
      const stop = () => sent.destroy(new NotPosted(STOPPED, 'ended before its answer'))
      signal?.addEventListener('abort', stop, { once: true })
      sent.on('close', () => {
        cancel()
        signal?.removeEventListener('abort', stop)
        // Of no effect after an answer. A switch of protocols, for one, ends the request without one and without an error.
        reject(new NotPosted('NO_ANSWER', 'the connection ended without an answer'))
      })
      sent.on('error', (error: NodeJS.ErrnoException) =>
        reject(error instanceof NotPosted ? error : new NotPosted(error.code ?? 'NETWORK', error.message)),
      )
      sent.end(body)
    })
  return {
    post,
    close: () => {
      http.destroy()
      https.destroy()
    },
  }
}
