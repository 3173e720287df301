import type { System } from '@pennywire/stack/system.ts'
import { Secret, TOTP } from 'otpauth'
import { runLoad } from './http-load.ts'
import type { LoadResult } from './load-generator.ts'
import { type Account, ask, makeAccounts, PASSWORD, type Person, PIN } from './people.ts'

/** The shipped setting, so that the figures are of real hashes. */
const BCRYPT_COST = 12
/** Users that sign in at once, each on a connection of its own. */
const ACCOUNTS = 8
/** Each code is valid once, and three are valid at a time: one turns the second factor on, two sign in. */
const CODES_EACH = 2
const TRANSFER_CLIENTS = 64

/** Number of bcrypt hashes that a gateway has made or compared. */
export type SlowHashes = { pin: number; password: number }

export type SignInFigures = {
  bcryptCost: number
  /** By password alone; and by password and code, both steps counted as one login. */
  loginsPerSecond: number
  secondFactorLoginsPerSecond: number
  refreshesPerSecond: number
  pinVerificationsPerSecond: number
  /** Transfers by step-up token alone, then beside a flood of logins and PIN verifications, then alone again. */
  transfers: { before: LoadResult; during: LoadResult; after: LoadResult }
  flood: { seconds: number; logins: number; pinVerifications: number }
  /** Hashes not caused by the flood, while transfers ran with step-up tokens: must be 0. */
  hashesOfTransfers: number
}

/** Reads the counters from a gateway's metrics. */
export const readSlowHashes = async (opsUrl: string): Promise<SlowHashes> => {
  const metrics = await (await fetch(`${opsUrl}/metrics`)).text()
  const of = (what: keyof SlowHashes) =>
    Number(
      new RegExp(`^pennywire_gateway_slow_hashes_total\\{of="${what}"\\} (\\d+)$`, 'm').exec(metrics)?.[1] ??
        0,
    )
  return { pin: of('pin'), password: of('password') }
}

type Signer = Account & { at: (path: string) => string }

const login = ({ at, email }: Signer) => ask(at('auth/login'), { email, password: PASSWORD })
const verifyPin = ({ at, accessToken }: Signer) => ask(at('pin/verify'), { pin: PIN }, bearer(accessToken))
const refresh = async (signer: Signer) => {
  signer.refreshToken = (
    await ask(signer.at('auth/refresh'), { refreshToken: signer.refreshToken })
  ).refreshToken
}

const bearer = (accessToken: string) => ({ authorization: `Bearer ${accessToken}` })

/** Runs `act` for all signers at once, each again once done, until the signal; resolves with the number of runs. */
const repeat = async (
  signers: Signer[],
  act: (signer: Signer) => Promise<unknown>,
  until: AbortSignal,
): Promise<number> => {
  let done = 0
  const one = async (signer: Signer) => {
    for (; !until.aborted; done++) await act(signer)
  }
  await Promise.all(signers.map(one))
  return done
}

const ratePerSecond = async (work: () => Promise<number>): Promise<number> => {
  const start = performance.now()
  const done = await work()
  return done / ((performance.now() - start) / 1_000)
}

/** Turns the second factor on and signs in with it; no code is used twice. */
const measureSecondFactor = async (signers: Signer[]): Promise<number> => {
  const authenticators = await Promise.all(
    signers.map(async signer => {
      const headers = bearer(signer.accessToken)
      const { secret } = await ask(signer.at('auth/2fa/enable'), { password: PASSWORD }, headers)
      const totp = new TOTP({ secret: Secret.fromBase32(secret) })
      let lastStep = 0
      const nextCode = () => {
        const now = totp.counter()
        lastStep = Math.max(lastStep + 1, now - 1)
        return totp.generate({ timestamp: 1_000 * totp.period * lastStep })
      }
      await ask(signer.at('auth/2fa/confirm'), { code: nextCode() }, headers)
      return { signer, nextCode }
    }),
  )
  return ratePerSecond(async () => {
    await Promise.all(
      authenticators.map(async ({ signer, nextCode }) => {
        for (let turn = 0; turn < CODES_EACH; turn++) {
          const { challengeToken } = await login(signer)
          await ask(signer.at('auth/2fa/verify'), { challengeToken, code: nextCode() })
        }
      }),
    )
    return CODES_EACH * signers.length
  })
}

/**
 * Measures sign-ins and payments through one gateway with hashes of the shipped cost, in place of the usual gateway.
 * Throws if a transfer with a step-up token made a hash: hashing must not be on the path of any payment.
 */
export const measureSignIns = async (
  system: System,
  people: Person[],
  seconds: number,
  say: (line: string) => void,
): Promise<SignInFigures> => {
  await system.service('gateway').stop()
  const honest = { BCRYPT_COST: String(BCRYPT_COST), ALLOW_CHEAP_HASHES: 'false' }
  const gateway = await system.startInstance('gateway', honest)
  const gatewayUrl = gateway.url
  const at = (path: string) => `${gatewayUrl}/v1/${path}`
  const accounts = await makeAccounts(gatewayUrl, system.stack.mail.httpUrl, ACCOUNTS)
  const signers = accounts.map((account): Signer => ({ ...account, at }))
  await Promise.all(signers.map(({ accessToken }) => ask(at('pin'), { pin: PIN }, bearer(accessToken))))

  const rateOf = (act: (signer: Signer) => Promise<unknown>) =>
    ratePerSecond(() => repeat(signers, act, AbortSignal.timeout(1_000 * seconds)))
  const loginsPerSecond = await rateOf(login)
  const pinVerificationsPerSecond = await rateOf(verifyPin)
  const refreshesPerSecond = await rateOf(refresh)

  const pay = (warmUpSeconds: number) =>
    runLoad({ gatewayUrl, people, kind: 'closed', clients: TRANSFER_CLIENTS, seconds, warmUpSeconds })
  const hashesBefore = await readSlowHashes(gateway.opsUrl)
  const before = await pay(2)
  const over = new AbortController()
  const start = performance.now()
  const [during, logins, pinVerifications] = await Promise.all([
    pay(1).finally(() => over.abort()),
    repeat(signers, login, over.signal),
    repeat(signers, verifyPin, over.signal),
  ])
  const flood = { seconds: (performance.now() - start) / 1_000, logins, pinVerifications }
  const after = await pay(1)
  const hashes = await readSlowHashes(gateway.opsUrl)
  const hashesOfTransfers =
    hashes.pin -
    hashesBefore.pin -
    flood.pinVerifications +
    (hashes.password - hashesBefore.password - flood.logins)
  if (hashesOfTransfers !== 0)
    throw new Error(`${hashesOfTransfers} hashes were made by transfers with a step-up token`)

  const secondFactorLoginsPerSecond = await measureSecondFactor(signers)
  await gateway.process.stop()
  const figures = {
    bcryptCost: BCRYPT_COST,
    loginsPerSecond,
    secondFactorLoginsPerSecond,
    refreshesPerSecond,
    pinVerificationsPerSecond,
    transfers: { before, during, after },
    flood,
    hashesOfTransfers,
  }
  const each = (perSecond: number) => perSecond.toFixed(1)
  say(
    `  ${each(loginsPerSecond)} logins/s, ${each(secondFactorLoginsPerSecond)}/s with a code, ` +
      `${each(refreshesPerSecond)} refreshes/s, ${each(pinVerificationsPerSecond)} PIN verifications/s`,
  )
  say(
    `  transfers by step-up token ${Math.round(before.perSecond)}/s, beside a flood of both ` +
      `${Math.round(during.perSecond)}/s, then ${Math.round(after.perSecond)}/s; they hashed nothing`,
  )
  return figures
}
