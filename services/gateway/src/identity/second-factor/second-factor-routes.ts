import { createRoute, z } from '@hono/zod-openapi'
import { sessionOf } from '../../http/context.ts'
import { refuseCrossSite } from '../../http/cross-site.ts'
import {
  BODY_PROBLEMS,
  type Guards,
  jsonAnswer,
  jsonBody,
  newRoutes,
  problemResponses,
  type Routes,
  SIGNED_IN_PROBLEMS,
  sixDigits,
  timestamp,
} from '../../http/define-route.ts'
import { createCallerOf, createTokensOf, tokens } from '../accounts/token-answer.ts'
import type { Sessions } from '../sessions/sessions.ts'
import type { Tokens } from '../sessions/tokens.ts'
import type { Proof, SecondFactor } from './second-factor.ts'

export type SecondFactorDeps = {
  guards: Guards
  secondFactor: SecondFactor
  sessions: Pick<Sessions, 'start'>
  tokens: Pick<Tokens, 'signStaffStepUp'>
  hashAddress: (address: string) => string
  /** The gateway's public URL: determines whether cookies need HTTPS, and which origin may request one. */
  publicUrl: string
}

const PASSWORD_INPUT_MAX = 1_024
const TOKEN_LENGTH_MAX = 256

const password = z
  .string()
  .max(PASSWORD_INPUT_MAX)
  .openapi({ example: 'Correct-Horse-7', format: 'password' })

const recoveryCode = z.string().min(1).max(64).openapi({ example: '7K2M-0QXD-93TF-ZB5A' })

const proofFields = {
  code: sixDigits.nullish().openapi({ type: ['string', 'null'] }),
  recoveryCode: recoveryCode.nullish(),
}
const eitherProof: [
  (proof: { code?: string | null | undefined; recoveryCode?: string | null | undefined }) => boolean,
  { path: string[]; message: string },
] = [
  ({ code, recoveryCode }) => (code == null) !== (recoveryCode == null),
  { path: ['code'], message: 'send either code or recoveryCode' },
]

const proofOf = (body: {
  code?: string | null | undefined
  recoveryCode?: string | null | undefined
}): Proof => (body.code == null ? { recoveryCode: body.recoveryCode! } : { code: body.code })

const recoveryCodes = z.array(z.string()).openapi({
  description: 'Shown this once. Each stands in for a code once.',
  example: ['7K2M-0QXD-93TF-ZB5A'],
})

const tags = ['Second factor']

const readRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/auth/2fa',
    tags,
    summary: 'Whether the second factor is on',
    ...signedIn(),
    responses: {
      200: jsonAnswer(
        'What stands of it',
        z
          .object({
            enabled: z.boolean(),
            enabledAt: timestamp.nullable(),
            recoveryCodesLeft: z.int(),
            lockedUntil: timestamp.nullable(),
          })
          .openapi('SecondFactor', {
            example: {
              enabled: true,
              enabledAt: '2026-01-31T09:30:00.000Z',
              recoveryCodesLeft: 10,
              lockedUntil: null,
            },
          }),
      ),
      ...problemResponses(...SIGNED_IN_PROBLEMS),
    },
  })

const enableRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/auth/2fa/enable',
    tags,
    summary: 'Offers a secret for an authenticator app',
    description:
      'Nothing changes before `confirm`, within 10 minutes; asked again, another secret takes its place. The URL is ' +
      'what a QR code shows.',
    ...signedIn({ limit: 'LOGIN', guardsMoney: true }),
    request: { body: jsonBody(z.strictObject({ password })) },
    responses: {
      200: jsonAnswer(
        'The secret, shown this once',
        z
          .object({ secret: z.string(), otpauthUrl: z.string(), expiresAt: timestamp })
          .openapi('SecondFactorOffer', {
            example: {
              secret: 'JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP',
              otpauthUrl:
                'otpauth://totp/pennywire:alice%40example.com?issuer=pennywire&secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP&algorithm=SHA1&digits=6&period=30',
              expiresAt: '2026-01-31T09:40:00.000Z',
            },
          }),
      ),
      ...problemResponses(
        ...BODY_PROBLEMS,
        ...SIGNED_IN_PROBLEMS,
        'PASSWORD_MISMATCH',
        'NO_PASSWORD',
        '2FA_ALREADY_ENABLED',
      ),
    },
  })

const confirmRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/auth/2fa/confirm',
    tags,
    summary: 'Turns the second factor on, with the first code',
    description: 'Ends all other sessions: they were let in without it.',
    ...signedIn({ limit: 'PIN', guardsMoney: true }),
    request: { body: jsonBody(z.strictObject({ code: sixDigits })) },
    responses: {
      200: jsonAnswer(
        'It is on, and sign-in asks for a code',
        z.object({ enabled: z.literal(true), recoveryCodes }),
      ),
      ...problemResponses(
        ...BODY_PROBLEMS,
        ...SIGNED_IN_PROBLEMS,
        '2FA_INVALID',
        '2FA_NOT_ENABLED',
        '2FA_ALREADY_ENABLED',
      ),
    },
  })

const PROOF_PROBLEMS = ['2FA_INVALID', '2FA_LOCKED', '2FA_NOT_ENABLED'] as const

const verifyRoute = ({ anybody }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/auth/2fa/verify',
    tags,
    summary: 'The second step of a sign-in',
    description:
      "With the `challengeToken` of `POST /v1/auth/login` and either the authenticator's code, each good once, or a " +
      'recovery code. Five wrong codes lock codes for 15 minutes, longer each time; recovery codes go on.',
    ...anybody({ limit: 'LOGIN', guardsLogin: true }),
    request: {
      body: jsonBody(
        z
          .strictObject({
            challengeToken: z.string().min(1).max(TOKEN_LENGTH_MAX),
            ...proofFields,
            cookie: z.boolean().nullish(),
          })
          .refine(...eitherProof)
          .openapi({ example: { challengeToken: 'Wd0m…', code: '048213' } }),
      ),
    },
    responses: {
      200: jsonAnswer('Tokens of a new session', tokens),
      ...problemResponses(
        ...BODY_PROBLEMS,
        ...PROOF_PROBLEMS,
        'CHALLENGE_INVALID',
        'CROSS_SITE_REQUEST',
        'ACCOUNT_DISABLED',
        'INVALID_CREDENTIALS',
        'RATE_LIMIT_EXCEEDED',
        'SERVICE_UNAVAILABLE',
      ),
    },
  })

const stepUpRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/auth/2fa/step-up',
    tags,
    summary: 'A step-up token for acts of staff',
    description:
      'For a code, which is good once. The token goes into the `Step-Up-Token` header of acts that give power or money ' +
      '(roles, reversals, limits, removing a second factor, unfreezing, reactivating), any number of them within its life.',
    ...signedIn({ limit: 'PIN', guardsMoney: true }),
    request: { body: jsonBody(z.strictObject({ code: sixDigits })) },
    responses: {
      200: jsonAnswer(
        'The token',
        z.object({ stepUpToken: z.string(), expiresAt: timestamp }).openapi({
          example: { stepUpToken: 'eyJhbGciOiJSUzI1NiIs…', expiresAt: '2026-01-31T09:35:00.000Z' },
        }),
      ),
      ...problemResponses(...BODY_PROBLEMS, ...SIGNED_IN_PROBLEMS, ...PROOF_PROBLEMS),
    },
  })

const passwordAndProof = z
  .strictObject({ password, ...proofFields })
  .refine(...eitherProof)
  .openapi({ example: { password: 'Correct-Horse-7', code: '048213' } })

const replaceCodesRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/auth/2fa/recovery-codes',
    tags,
    summary: 'New recovery codes; those before are worthless',
    description: 'Ends all other sessions.',
    ...signedIn({ limit: 'LOGIN', guardsMoney: true }),
    request: { body: jsonBody(passwordAndProof) },
    responses: {
      200: jsonAnswer('The new ones', z.object({ recoveryCodes })),
      ...problemResponses(
        ...BODY_PROBLEMS,
        ...SIGNED_IN_PROBLEMS,
        ...PROOF_PROBLEMS,
        'PASSWORD_MISMATCH',
        'NO_PASSWORD',
      ),
    },
  })

const disableRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/auth/2fa/disable',
    tags,
    summary: 'Turns the second factor off',
    description: 'Ends all other sessions; a member of staff is signed out here too.',
    ...signedIn({ limit: 'LOGIN', guardsMoney: true }),
    request: { body: jsonBody(passwordAndProof) },
    responses: {
      200: jsonAnswer('It is off', z.object({ enabled: z.literal(false) })),
      ...problemResponses(
        ...BODY_PROBLEMS,
        ...SIGNED_IN_PROBLEMS,
        ...PROOF_PROBLEMS,
        'PASSWORD_MISMATCH',
        'NO_PASSWORD',
      ),
    },
  })

/** The second factor: turning it on and off, and the second step of a sign-in. */
export const secondFactorRoutes = (deps: SecondFactorDeps): Routes => {
  const { guards, secondFactor, sessions } = deps
  const routes = newRoutes()
  const callerOf = createCallerOf(deps.hashAddress)
  const { origin, protocol } = new URL(deps.publicUrl)
  const tokensOf = createTokensOf(protocol === 'https:')

  routes.openapi(readRoute(guards), async context => {
    const { enabledAt, recoveryCodesLeft, lockedUntil } = await secondFactor.read(context.var.user.userId)
    return context.json(
      {
        enabled: enabledAt !== null,
        enabledAt: enabledAt?.toISOString() ?? null,
        recoveryCodesLeft,
        lockedUntil: lockedUntil?.toISOString() ?? null,
      },
      200,
    )
  })

  routes.openapi(enableRoute(guards), async context => {
    const offer = await secondFactor.enable(context.var.user.userId, context.req.valid('json').password)
    return context.json({ ...offer, expiresAt: offer.expiresAt.toISOString() }, 200)
  })

  routes.openapi(confirmRoute(guards), async context => {
    const { traceparent } = context.var
    const codes = await secondFactor.confirm(sessionOf(context), context.req.valid('json').code, traceparent)
    return context.json({ enabled: true as const, recoveryCodes: codes }, 200)
  })

  routes.openapi(verifyRoute(guards), async context => {
    const { challengeToken, cookie, ...body } = context.req.valid('json')
    if (cookie) refuseCrossSite(context, origin)
    const caller = callerOf(context)
    const user = await secondFactor.verify(challengeToken, proofOf(body), caller)
    return context.json(
      tokensOf(context, await sessions.start(user, caller, 'second_factor'), cookie === true),
      200,
    )
  })

  routes.openapi(stepUpRoute(guards), async context => {
    const session = sessionOf(context)
    const { code } = context.req.valid('json')
    const at = await secondFactor.confirmPresence(session, code, context.var.traceparent)
    const { stepUpToken, expiresAt } = await deps.tokens.signStaffStepUp(session, at.getTime())
    return context.json({ stepUpToken, expiresAt: expiresAt.toISOString() }, 200)
  })

  routes.openapi(replaceCodesRoute(guards), async context => {
    const { traceparent } = context.var
    const body = context.req.valid('json')
    const codes = await secondFactor.replaceCodes(
      sessionOf(context),
      body.password,
      proofOf(body),
      traceparent,
    )
    return context.json({ recoveryCodes: codes }, 200)
  })

  routes.openapi(disableRoute(guards), async context => {
    const { traceparent } = context.var
    const body = context.req.valid('json')
    await secondFactor.disable(sessionOf(context), body.password, proofOf(body), traceparent)
    return context.json({ enabled: false as const }, 200)
  })

  return routes
}
