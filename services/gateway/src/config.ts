import { topicSettings } from '@pennywire/kafka/check-topics.ts'
import { commandMacKeys } from '@pennywire/kafka/command-mac.ts'
import { jsonFile, loadConfig, serviceSettings, textFile } from '@pennywire/runtime/config.ts'
import { databaseUrl } from '@pennywire/runtime/database-url.ts'
import { macKeys } from '@pennywire/runtime/mac-keys.ts'
import { z } from 'zod'
import { parseNetworks } from './http/client-address.ts'
import type { LimitName, RateLimit } from './http/rate-limit.ts'
import { canonicalEmail } from './identity/accounts/email-address.ts'
import { createKeyRing } from './identity/persons/secret-box.ts'
import type { JwtKey } from './identity/sessions/tokens.ts'
import { secureUrl, trustedIssuer } from './identity/sign-in/external-tokens.ts'
import { oidcProvider } from './identity/sign-in/oidc-providers.ts'
import type { BackPressureLimits } from './ledger/back-pressure.ts'
import { providerSecrets } from './payments/payment-provider.ts'

const rateLimit = (usual: string) =>
  z
    .string()
    .default(usual)
    .transform((text, context): RateLimit => {
      const match = /^([1-9][0-9]{0,8})\/([1-9][0-9]{0,4})$/.exec(text)
      if (match) return { requests: Number(match[1]), seconds: Number(match[2]) }
      context.issues.push({ code: 'custom', input: text, message: 'must be requests/seconds, such as 20/60' })
      return z.NEVER
    })

const networks = z
  .string()
  .default('')
  .transform((list, context) => {
    try {
      return parseNetworks(list)
    } catch (error) {
      context.issues.push({ code: 'custom', input: list, message: (error as Error).message })
      return z.NEVER
    }
  })

const KEY_BYTES = 32

const secretKey = z
  .object({ kid: z.string().min(1).max(64), key: z.base64url() })
  .transform(({ kid, key }) => ({ kid, key: Buffer.from(key, 'base64url') }))
  .refine(({ key }) => key.length >= KEY_BYTES, `key must have at least ${KEY_BYTES} bytes`)

/** Encryption keys have exactly the length that AES-256 requires. */
const encryptionKey = secretKey.refine(
  ({ key }) => key.length === KEY_BYTES,
  `key must have exactly ${KEY_BYTES} bytes`,
)

/** One key, or `{"keys": [...]}`: the first makes new values, the others only read the values that they made. */
const keyRing = (key: typeof secretKey) =>
  z
    .union([
      key.transform(one => [one]),
      z.object({ keys: z.array(key).min(1) }).transform(({ keys }) => keys),
    ])
    .refine(keys => new Set(keys.map(({ kid }) => kid)).size === keys.length, 'two keys have one kid')
    .transform(([current, ...earlier]) => createKeyRing([current!, ...earlier]))

const rsaPublic = z.looseObject({
  kty: z.literal('RSA'),
  kid: z.string().min(1),
  n: z.string(),
  e: z.string(),
})
/**
 * A private key, which may sign, or a public one, which only verifies its earlier signatures; for the times see
 * tokens.ts.
 */
const jwtKey = rsaPublic.extend({
  d: z.string().optional(),
  signsFrom: z.iso.datetime().optional(),
  until: z.iso.datetime().optional(),
})
const jwtKeys = z
  .union([
    jwtKey.transform(key => [key]),
    z.object({ keys: z.array(jwtKey).min(1) }).transform(({ keys }) => keys),
  ])
  .refine(keys => new Set(keys.map(({ kid }) => kid)).size === keys.length, 'two keys have one kid')
  .refine(
    keys =>
      keys.some(({ d, signsFrom }) => d !== undefined && Date.parse(signsFrom ?? '1970-01-01') <= Date.now()),
    'no private key whose time to sign has come',
  )
  .transform(keys => keys as JwtKey[])

/** A JSON file that is reloaded while the gateway runs; `read` throws if it is not valid any more. */
const rereadFile = <Schema extends z.ZodType>(schema: Schema) =>
  z.string().transform((path, context): { value: z.output<Schema>; read: () => z.output<Schema> } => {
    const parsed = jsonFile(schema).safeParse(path)
    if (parsed.success) return { value: parsed.data, read: () => jsonFile(schema).parse(path) }
    for (const { message } of parsed.error.issues)
      context.issues.push({ code: 'custom', input: path, message })
    return z.NEVER
  })

const trustedIssuers = z
  .string()
  .default('[]')
  .transform((text, context) => {
    try {
      return z
        .array(trustedIssuer)
        .refine(
          issuers => new Set(issuers.map(({ issuer }) => issuer)).size === issuers.length,
          'two of one issuer',
        )
        .parse(JSON.parse(text))
    } catch (error) {
      const message = 'must be [{"issuer": "…", "jwksUrl": "https://…", "audience": "…"}]'
      const why =
        error instanceof z.ZodError ? `; ${error.issues.map(issue => issue.message).join('; ')}` : ''
      context.issues.push({ code: 'custom', input: text, message: `${message}${why}` })
      return z.NEVER
    }
  })

const oidcProviders = z
  .strictObject({ providers: z.array(oidcProvider) })
  .refine(
    ({ providers }) => new Set(providers.map(({ name }) => name)).size === providers.length,
    'two providers have one name',
  )
  .transform(({ providers }) => providers)

/** Complete URLs: a prefix would allow a return to any page below it. */
const returnUrls = z
  .string()
  .default('')
  .transform((list, context) => {
    const urls = list.split(',').flatMap(part => part.trim() || [])
    const wrong = urls.filter(url => url.includes('#') || !secureUrl.safeParse(url).success)
    if (wrong.length === 0) return urls
    const message = `must be https URLs without a fragment, between commas: ${wrong.join(' ')}`
    context.issues.push({ code: 'custom', input: list, message })
    return z.NEVER
  })

const ecPublic = z.looseObject({
  kty: z.literal('EC'),
  crv: z.literal('P-256'),
  kid: z.string().min(1),
  x: z.string(),
  y: z.string(),
})

const COST_FLOOR = 10
/** An amount in major units, `1000`; or by currency, `*=1000,JPY=150000`. */
const amountByCurrency = (usual: string) =>
  z
    .string()
    .default(usual)
    .transform((text, context) => {
      const amounts = new Map<string, string>()
      for (const part of text.split(',')) {
        const [, currency = '*', amount] =
          /^(?:(\*|[A-Z]{3})=)?([0-9]{1,12}(?:\.[0-9]{1,4})?)$/.exec(part.trim()) ?? []
        if (amount !== undefined) amounts.set(currency, amount)
        else {
          const message = 'must be an amount such as 1000, or such as *=1000,JPY=150000'
          context.issues.push({ code: 'custom', input: text, message })
        }
      }
      return (currency: string) => amounts.get(currency) ?? amounts.get('*') ?? '0'
    })

/** The gateway's settings; `cheapHashes` allows a hash cost below the safe one, for tests. */
export const gatewaySettings = (cheapHashes: boolean) => ({
  ...serviceSettings,
  ...topicSettings,
  HTTP_HOST: z
    .string()
    .default('127.0.0.1')
    .describe('Where clients, or the proxy before them, reach the API.'),
  HTTP_PORT: z.coerce.number().int().min(0).max(65_535).describe('0: a free one, which the log tells.'),
  MAX_CONNECTIONS: z.coerce
    .number()
    .int()
    .min(1)
    .max(100_000)
    .default(10_000)
    .describe(
      'Connections of the API at once; then the one that was idle longest makes room, and where all are at work a new one is closed.',
    ),
  MAX_CONNECTIONS_PER_ADDRESS: z.coerce
    .number()
    .int()
    .min(1)
    .max(100_000)
    .default(1_000)
    .describe(
      'The same for one IPv4 address or IPv6 /64, whose further ones are closed. A proxy of `TRUSTED_PROXIES` is not counted; one that is not named there is.',
    ),
  MAX_STREAMS: z.coerce
    .number()
    .int()
    .min(1)
    .max(100_000)
    .default(5_000)
    .describe(
      'Live streams (Server-Sent Events) at once, each of which keeps a connection; further ones are refused. Below `MAX_CONNECTIONS`, so that payments find one.',
    ),
  MAX_STREAMS_PER_USER: z.coerce
    .number()
    .int()
    .min(1)
    .max(10_000)
    .default(20)
    .describe('The same for one user, over all sessions and API keys.'),
  API_DOCS: z
    .enum(['true', 'false'])
    .default('true')
    .describe(
      '`false` takes `/docs`, `/docs/events`, their assets, `/openapi.json` and `/asyncapi.json` away; `/docs/problems`, which every problem names, stays.',
    ),
  LEDGER_READ_URL: databaseUrl.describe("The ledger's views for readers, as `ledger_reader`."),
  NOTIFIER_URL: databaseUrl.describe(
    'What users read, mark and choose at the notifier, as `notifier_client`.',
  ),
  AUDIT_READ_URL: databaseUrl.describe("The audit trail's views for readers, as `audit_reader`."),
  REDIS_URL: z.url({ protocol: /^rediss?$/ }).describe('Rate limits, and sessions that ended.'),
  REDIS_CA_FILE: textFile
    .optional()
    .describe('PEM: the authority that the certificate of a `rediss:` URL is of.'),
  PUBLIC_URL: z
    .url()
    .transform(url => url.replace(/\/$/, ''))
    .describe(
      'Where clients reach the gateway: in mailed links and the API reference. With `https:` cookies are sent by HTTPS alone.',
    ),
  PROVIDER_URL: z.url().describe('The payment provider.'),
  CALLBACK_URL: z
    .url()
    .describe(
      "Where the payment provider tells what became of a payment: this gateway's `/v1/provider/callbacks`.",
    ),
  WEBHOOK_ALLOW_PRIVATE: z
    .enum(['true', 'false'])
    .default('false')
    .describe('For development: webhooks may lead to http and to addresses of the own network.'),
  MAIL_CALLBACK_SECRET: z
    .string()
    .min(32)
    .optional()
    .describe('Proves what the mail server tells of bounces and complaints; without it nothing is taken.'),
  PROVIDER_SECRET_FILE: jsonFile(providerSecrets).describe(
    'The secrets by which the provider and the gateway sign to each other.',
  ),
  JWT_KEY_FILE: rereadFile(jwtKeys).describe(
    'Signs the tokens: a private RSA JWK with its `kid`, or several, `{"keys": [...]}`.',
  ),
  JWT_KEY_RELOAD_SECONDS: z.coerce
    .number()
    .min(0.1)
    .max(60)
    .default(5)
    .describe('How often that file is read again, so that a rotation needs no restart.'),
  COMMAND_MAC_FILE: jsonFile(commandMacKeys).describe(
    'The keys of the MAC on commands: a gateway signs by the first, a ledger takes what any of them signed.',
  ),
  RECEIPT_KEY_FILE: jsonFile(macKeys).describe(
    'The keys of the codes on receipts: the first makes them, all check them. A receipt is authentic as long as its key is here.',
  ),
  PIN_PEPPER_FILE: jsonFile(keyRing(secretKey)).describe(
    'PINs, recovery codes and mailed codes are hashed under it: without it a stolen hash is no PIN.',
  ),
  SECOND_FACTOR_KEY_FILE: jsonFile(keyRing(encryptionKey)).describe(
    'Encrypts what makes the codes of the second factor.',
  ),
  PERSON_KEK_FILE: jsonFile(keyRing(encryptionKey)).describe(
    'Wraps the keys of persons; what an earlier one wrapped is wrapped anew at the start.',
  ),
  ADDRESS_HMAC_FILE: jsonFile(secretKey).describe('Hashes network addresses in events and counters.'),
  NOTIFIER_PUBLIC_KEY_FILE: jsonFile(ecPublic).describe('Encrypts the secrets of mails for the notifier.'),
  BOOTSTRAP_ADMIN_EMAIL: z
    .string()
    .transform(canonicalEmail)
    .refine(email => email !== null, 'must be an e-mail address')
    .optional()
    .describe('Who becomes the first super_admin, once this address is verified; nobody a second time.'),
  ISSUER: z.string().min(1).default('pennywire').describe('`iss` of the tokens.'),
  TRUSTED_ISSUERS: trustedIssuers.describe(
    'Issuers whose tokens sign in users who have linked an identity there: `[{issuer, jwksUrl, audience}]`.',
  ),
  OIDC_PROVIDERS_FILE: jsonFile(oidcProviders)
    .optional()
    .describe(
      'Providers through which people sign up and in (OpenID Connect), `{"providers": [...]}`: [social-login](social-login.md).',
    ),
  OIDC_RETURN_URLS: returnUrls.describe(
    'Where such a sign-in may lead the browser back to: complete URLs between commas.',
  ),
  AUDIENCE: z.string().min(1).default('pennywire-api').describe('`aud` of the tokens.'),
  ACCESS_TOKEN_SECONDS: z.coerce
    .number()
    .int()
    .min(10)
    .max(900)
    .default(900)
    .describe('For how long an access token is good.'),
  STEP_UP_SECONDS: z.coerce
    .number()
    .int()
    .min(10)
    .max(3_600)
    .default(300)
    .describe('For how long a step-up token is good.'),
  FRESH_PIN_ABOVE: amountByCurrency('1000').describe(
    'Amounts above it, in whole units of the currency, need the PIN itself: no step-up token or API key will do. By currency: `*=1000,JPY=150000`.',
  ),
  REQUEST_EXPIRES_SECONDS: z.coerce
    .number()
    .int()
    .min(1)
    .max(3_600)
    .default(300)
    .describe('A transfer that the ledger has not decided by then is rejected as `REQUEST_EXPIRED`.'),
  PENDING_LOOK_SECONDS: z.coerce
    .number()
    .min(0.1)
    .max(3_600)
    .default(60)
    .describe(
      'How long past its expiry a request that Kafka took may be undecided before its command is sent again, so that the ledger says what became of it. Again after twice the time, up to an hour.',
    ),
  PURGE_SECONDS: z.coerce
    .number()
    .min(0.1)
    .max(86_400)
    .default(3_600)
    .describe('How often expired tokens and old sign-ins are deleted.'),
  DELETION_WAIT_DAYS: z.coerce
    .number()
    .min(0)
    .max(90)
    .default(7)
    .describe('For how long users can cancel the deletion of their account that they asked for.'),
  HOLD_EXPIRY_SECONDS: z.coerce
    .number()
    .min(0)
    .max(3_600)
    .default(5)
    .describe('How often holds are looked for whose time is over; 0: this gateway does not.'),
  HOLD_MIN_SECONDS: z.coerce
    .number()
    .int()
    .min(1)
    .max(86_400)
    .default(60)
    .describe('The shortest time for which money can be held.'),
  REFUSE_AT_PUBLISH_WAITING: z.coerce
    .number()
    .int()
    .min(1)
    .max(20_000)
    .default(5_000)
    .describe(
      'A request that moves money is refused (503, Retry-After) while so many records wait for Kafka: it would only wait as well.',
    ),
  REFUSE_AT_PUBLISH_SECONDS: z.coerce
    .number()
    .min(0.1)
    .max(60)
    .default(3)
    .describe("The same while the oldest record of the wallet's partition has waited so long for Kafka."),
  REFUSE_AT_WAITING_REQUESTS: z.coerce
    .number()
    .int()
    .min(1)
    .max(100_000)
    .default(2_000)
    .describe(
      'The same while so many clients wait for their outcome, and no user has more waits than the one who asks. A client takes some 20 KB.',
    ),
  WAITS_PER_USER: z.coerce
    .number()
    .int()
    .min(1)
    .max(10_000)
    .default(20)
    .describe(
      'So many requests of one user wait as long as they prefer, over all API keys and sessions; further ones 2 s.',
    ),
  REFUSE_AT_UNDECIDED: z.coerce
    .number()
    .int()
    .min(1)
    .max(1_000_000)
    .default(20_000)
    .describe('The same while so many commands of this gateway are in Kafka and not decided.'),
  REFUSE_AT_UNDECIDED_SECONDS: z.coerce
    .number()
    .min(1)
    .max(3_600)
    .default(30)
    .describe("The same while the oldest of them in the wallet's partition has waited so long."),
  PAYMENT_LOOK_SECONDS: z.coerce
    .number()
    .min(0.1)
    .max(60)
    .default(5)
    .describe(
      'When a payment that nobody has brought to its end is looked at first, by any gateway. Again after twice the time, up to five minutes.',
    ),
  PAYMENT_STUCK_SECONDS: z.coerce
    .number()
    .int()
    .min(1)
    .max(2_592_000)
    .default(3_600)
    .describe('After how long without an end a payment counts as stuck.'),
  DEPOSIT_EXPIRES_SECONDS: z.coerce
    .number()
    .int()
    .min(1)
    .max(2_592_000)
    .default(86_400)
    .describe(
      'A deposit that its payer has not completed with the provider by then is cancelled there: `REQUEST_EXPIRED`.',
    ),
  BCRYPT_COST: z.coerce
    .number()
    .int()
    .min(cheapHashes ? 4 : COST_FLOOR)
    .max(16)
    .default(12)
    .describe('Of passwords and PINs: 12 takes about 250 ms of one core.'),
  ALLOW_CHEAP_HASHES: z
    .enum(['true', 'false'])
    .default('false')
    .describe('For tests and benches: lets `BCRYPT_COST` go below 10. The start warns of it.'),
  TRUSTED_PROXIES: networks.describe(
    'Addresses or networks of proxies whose `X-Forwarded-For` is believed: [rate-limits](rate-limits.md#whose-address-counts).',
  ),
  RATE_LIMIT_SIGNUP: rateLimit('5/60').describe('Sign-ups by address.'),
  RATE_LIMIT_LOGIN: rateLimit('5/60').describe(
    'Sign-ins in all their ways and steps, and new passwords, by address; where signed in, what asks for the password, by user.',
  ),
  RATE_LIMIT_LOGIN_ACCOUNT: rateLimit('20/900').describe(
    'Wrong passwords for one account, by everybody together who never signed in to it from where they are.',
  ),
  RATE_LIMIT_PIN: rateLimit('10/60').describe('Tries of a PIN by user.'),
  RATE_LIMIT_TRANSFER: rateLimit('20/60').describe('Transfers, holds and how they end, by user.'),
  RATE_LIMIT_DEPOSIT: rateLimit('10/60').describe('Deposits by user.'),
  RATE_LIMIT_WITHDRAWAL: rateLimit('10/60').describe('Withdrawals by user.'),
  RATE_LIMIT_RECIPIENT: rateLimit('30/60').describe(
    "Looking up whose a wallet's code is, and previews, by user over all their API keys.",
  ),
  RATE_LIMIT_STATEMENT: rateLimit('20/60').describe('Statements by user over all their API keys.'),
  RATE_LIMIT_RECEIPT: rateLimit('30/60').describe(
    'Receipts asked for, by user over all their API keys; receipts checked, by address.',
  ),
  RATE_LIMIT_DEFAULT: rateLimit('600/60').describe('Every route, by user or, without sign-in, by address.'),
  RATE_LIMIT_MAIL: rateLimit('3/300').describe('Routes that send a mail, by address or user.'),
  RATE_LIMIT_API_KEY: rateLimit('1200/60').describe(
    'Every route, by API key in place of `RATE_LIMIT_DEFAULT`.',
  ),
  RATE_LIMIT_API_KEYS: rateLimit('6000/60').describe('Every route, by user over all their API keys.'),
})

/** Reads the settings; an invalid one aborts the start and is named. */
export const loadGatewayConfig = (env: NodeJS.ProcessEnv) =>
  loadConfig(gatewaySettings(env.ALLOW_CHEAP_HASHES === 'true'), env)

export type GatewayConfig = ReturnType<typeof loadGatewayConfig>

export const backPressureLimitsOf = (config: GatewayConfig): BackPressureLimits => ({
  publishWaiting: config.REFUSE_AT_PUBLISH_WAITING,
  publishMs: config.REFUSE_AT_PUBLISH_SECONDS * 1_000,
  waitingRequests: config.REFUSE_AT_WAITING_REQUESTS,
  undecided: config.REFUSE_AT_UNDECIDED,
  undecidedMs: config.REFUSE_AT_UNDECIDED_SECONDS * 1_000,
})

/** The rate limits by name. */
export const rateLimitsOf = (config: GatewayConfig): Record<LimitName, RateLimit> => ({
  SIGNUP: config.RATE_LIMIT_SIGNUP,
  LOGIN: config.RATE_LIMIT_LOGIN,
  LOGIN_ACCOUNT: config.RATE_LIMIT_LOGIN_ACCOUNT,
  PIN: config.RATE_LIMIT_PIN,
  TRANSFER: config.RATE_LIMIT_TRANSFER,
  DEPOSIT: config.RATE_LIMIT_DEPOSIT,
  WITHDRAWAL: config.RATE_LIMIT_WITHDRAWAL,
  RECIPIENT: config.RATE_LIMIT_RECIPIENT,
  STATEMENT: config.RATE_LIMIT_STATEMENT,
  RECEIPT: config.RATE_LIMIT_RECEIPT,
  DEFAULT: config.RATE_LIMIT_DEFAULT,
  MAIL: config.RATE_LIMIT_MAIL,
  API_KEY: config.RATE_LIMIT_API_KEY,
  API_KEYS: config.RATE_LIMIT_API_KEYS,
})
