import { topicSettings } from '@pennywire/kafka/check-topics.ts'
import { commandMacKeys } from '@pennywire/kafka/command-mac.ts'
import { jsonFile, loadConfig, serviceSettings, textFile } from '@pennywire/runtime/config.ts'
import { databaseUrl } from '@pennywire/runtime/database-url.ts'
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

/** Encryption keys are exactly as long as AES-256 takes. */
const encryptionKey = secretKey.refine(
  ({ key }) => key.length === KEY_BYTES,
  `key must have exactly ${KEY_BYTES} bytes`,
)

/** One key, or `{"keys": [...]}`: the first is in use, what the others made is still read. */
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
/** A key that may sign, and one that only verifies what it signed; when, says tokens.ts. */
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

/** A JSON file that is read again while the gateway runs; `read` throws where it cannot be used any more. */
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

/** The gateway's settings; a wrong one ends the start and names itself. */
export const loadGatewayConfig = (env: NodeJS.ProcessEnv) => {
  const cheapHashes = env.ALLOW_CHEAP_HASHES === 'true'
  return loadConfig(
    {
      ...serviceSettings,
      ...topicSettings,
      /** Where clients, or the proxy before them, reach the API. */
      HTTP_HOST: z.string().default('127.0.0.1'),
      HTTP_PORT: z.coerce.number().int().min(0).max(65_535),
      /** Connections at once; then the one that was idle longest makes room. */
      MAX_CONNECTIONS: z.coerce.number().int().min(1).max(100_000).default(10_000),
      /** The same for one address (IPv6: a /64), whose further ones are closed; those of TRUSTED_PROXIES are not counted. */
      MAX_CONNECTIONS_PER_ADDRESS: z.coerce.number().int().min(1).max(100_000).default(1_000),
      /** Whether `/docs` and `/openapi.json` are there. */
      API_DOCS: z.enum(['true', 'false']).default('true'),
      LEDGER_READ_URL: databaseUrl,
      NOTIFIER_READ_URL: databaseUrl,
      REDIS_URL: z.url({ protocol: /^rediss?$/ }),
      /** PEM: the authority that the certificate of a rediss: URL is of. */
      REDIS_CA_FILE: textFile.optional(),
      /** Where clients reach the gateway: in mailed links, in the API reference, and whether cookies need HTTPS. */
      PUBLIC_URL: z.url().transform(url => url.replace(/\/$/, '')),
      PROVIDER_URL: z.url(),
      CALLBACK_URL: z.url(),
      PROVIDER_SECRET_FILE: jsonFile(providerSecrets),
      /**
       * Signs the tokens: a private RSA JWK with its kid, or several keys ({keys: [...]}), see tokens.ts. Read again
       * every so many seconds, so that a rotation needs no restart.
       */
      JWT_KEY_FILE: rereadFile(jwtKeys),
      JWT_KEY_RELOAD_SECONDS: z.coerce.number().min(0.1).max(60).default(5),
      /** The ledger takes a command only with a MAC by one of these keys: the first signs. */
      COMMAND_MAC_FILE: jsonFile(commandMacKeys),
      /** Without it a stolen hash is no PIN; recovery codes and mailed codes are hashed with it as well. */
      PIN_PEPPER_FILE: jsonFile(keyRing(secretKey)),
      /** Encrypts what makes the codes of the second factor. */
      SECOND_FACTOR_KEY_FILE: jsonFile(keyRing(encryptionKey)),
      /** Wraps the keys of persons; what an earlier one wrapped is wrapped anew at the start. */
      PERSON_KEK_FILE: jsonFile(keyRing(encryptionKey)),
      ADDRESS_HMAC_FILE: jsonFile(secretKey),
      NOTIFIER_PUBLIC_KEY_FILE: jsonFile(ecPublic),
      /** Who becomes the first super_admin, once this address is verified. */
      BOOTSTRAP_ADMIN_EMAIL: z
        .string()
        .transform(canonicalEmail)
        .refine(email => email !== null, 'must be an e-mail address')
        .optional(),
      ISSUER: z.string().min(1).default('pennywire'),
      /** Issuers whose tokens sign in users who have linked an identity there: [{issuer, jwksUrl, audience}]. */
      TRUSTED_ISSUERS: trustedIssuers,
      /** Providers through which people sign up and in (OpenID Connect): {providers: [...]}, see docs/social-login.md. */
      OIDC_PROVIDERS_FILE: jsonFile(oidcProviders).optional(),
      /** Where such a sign-in may lead the browser back to. */
      OIDC_RETURN_URLS: returnUrls,
      AUDIENCE: z.string().min(1).default('pennywire-api'),
      ACCESS_TOKEN_SECONDS: z.coerce.number().int().min(10).max(900).default(900),
      STEP_UP_SECONDS: z.coerce.number().int().min(10).max(3_600).default(300),
      /** Amounts above this many major units need the PIN itself, not a step-up token; may differ by currency. */
      FRESH_PIN_ABOVE: amountByCurrency('1000'),
      /** A transfer that the ledger has not decided by then is rejected as REQUEST_EXPIRED. */
      REQUEST_EXPIRES_SECONDS: z.coerce.number().int().min(1).max(3_600).default(300),
      /**
       * How long past its expiry a request that Kafka took may be undecided before its command is sent again, so that
       * the ledger says what became of it. Again after twice the time, up to an hour.
       */
      PENDING_LOOK_SECONDS: z.coerce.number().min(0.1).max(3_600).default(60),
      /** How often expired tokens and old sign-ins are deleted. */
      PURGE_SECONDS: z.coerce.number().min(0.1).max(86_400).default(3_600),
      /** How often holds are looked for whose time is over; 0: this gateway does not. */
      HOLD_EXPIRY_SECONDS: z.coerce.number().min(0).max(3_600).default(5),
      /** The shortest time for which money can be held. */
      HOLD_MIN_SECONDS: z.coerce.number().int().min(1).max(86_400).default(60),
      /**
       * When a request that moves money is refused early (503, Retry-After) because it would only wait. Records that
       * wait for Kafka, and for how long the oldest of them may; clients that wait for an outcome; commands of this
       * gateway that the ledger has not decided, and for how long the oldest of them may wait. Well above what a busy
       * gateway has (hundreds of each, for tens of milliseconds), well below what memory holds (some 20 KB a client).
       */
      REFUSE_AT_PUBLISH_WAITING: z.coerce.number().int().min(1).max(20_000).default(5_000),
      REFUSE_AT_PUBLISH_SECONDS: z.coerce.number().min(0.1).max(60).default(3),
      REFUSE_AT_WAITING_REQUESTS: z.coerce.number().int().min(1).max(100_000).default(2_000),
      /** So many requests of one user wait as long as they prefer, over all API keys and sessions; further ones 2 s. */
      WAITS_PER_USER: z.coerce.number().int().min(1).max(10_000).default(20),
      REFUSE_AT_UNDECIDED: z.coerce.number().int().min(1).max(1_000_000).default(20_000),
      REFUSE_AT_UNDECIDED_SECONDS: z.coerce.number().min(1).max(3_600).default(30),
      /**
       * When a payment that nobody has brought to its end is looked at first, by any gateway, and after how long without
       * an end it counts as stuck. It is looked at again after twice the time, up to five minutes.
       */
      PAYMENT_LOOK_SECONDS: z.coerce.number().min(0.1).max(60).default(5),
      PAYMENT_STUCK_SECONDS: z.coerce.number().int().min(1).max(2_592_000).default(3_600),
      /** A deposit that its payer has not completed with the provider by then is cancelled there: REQUEST_EXPIRED. */
      DEPOSIT_EXPIRES_SECONDS: z.coerce.number().int().min(1).max(2_592_000).default(86_400),
      /** bcrypt's cost: 12 takes about 250 ms of one core. */
      BCRYPT_COST: z.coerce
        .number()
        .int()
        .min(cheapHashes ? 4 : COST_FLOOR)
        .max(16)
        .default(12),
      /** For tests and benches: lets BCRYPT_COST go below 10. The start warns of it. */
      ALLOW_CHEAP_HASHES: z.enum(['true', 'false']).default('false'),
      /** Addresses or networks of proxies whose X-Forwarded-For is believed; none by default. */
      TRUSTED_PROXIES: networks,
      RATE_LIMIT_SIGNUP: rateLimit('5/60'),
      RATE_LIMIT_LOGIN: rateLimit('5/60'),
      /** Wrong passwords for one account, by everybody together who never signed in to it from where they are. */
      RATE_LIMIT_LOGIN_ACCOUNT: rateLimit('20/900'),
      RATE_LIMIT_PIN: rateLimit('10/60'),
      RATE_LIMIT_TRANSFER: rateLimit('20/60'),
      RATE_LIMIT_DEPOSIT: rateLimit('10/60'),
      RATE_LIMIT_WITHDRAWAL: rateLimit('10/60'),
      RATE_LIMIT_RECIPIENT: rateLimit('30/60'),
      RATE_LIMIT_STATEMENT: rateLimit('20/60'),
      RATE_LIMIT_DEFAULT: rateLimit('600/60'),
      RATE_LIMIT_MAIL: rateLimit('3/300'),
      /** By API key, in place of RATE_LIMIT_DEFAULT. */
      RATE_LIMIT_API_KEY: rateLimit('1200/60'),
      /** By user, over all their API keys. */
      RATE_LIMIT_API_KEYS: rateLimit('6000/60'),
    },
    env,
  )
}

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
  DEFAULT: config.RATE_LIMIT_DEFAULT,
  MAIL: config.RATE_LIMIT_MAIL,
  API_KEY: config.RATE_LIMIT_API_KEY,
  API_KEYS: config.RATE_LIMIT_API_KEYS,
})
