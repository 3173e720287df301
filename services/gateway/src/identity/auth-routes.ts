import { createRoute, z } from '@hono/zod-openapi'
import type { Database } from '@pennywire/runtime/database.ts'
import type { Context } from 'hono'
import { deleteCookie, getCookie } from 'hono/cookie'
import type { Caller } from '../access/requester.ts'
import { type GatewayEnv, sessionOf } from '../http/context.ts'
import { refuseCrossSite } from '../http/cross-site.ts'
import {
  ANYBODY_PROBLEMS,
  BODY_PROBLEMS,
  type Guards,
  jsonAnswer,
  jsonBody,
  newRoutes,
  problemResponses,
  type Routes,
  SIGNED_IN_PROBLEMS,
  timestamp,
} from '../http/define-route.ts'
import { enforceLimits } from '../http/rate-limit.ts'
import { ProblemError } from '../problems/problem.ts'
import { account, accountOf, externalToken, password } from './accounts/account-fields.ts'
import type { Accounts } from './accounts/accounts.ts'
import { emailAddress } from './accounts/email-address.ts'
import { newPasswordPages } from './accounts/new-password-page.ts'
import {
  cookieName,
  cookieOptionsFor,
  createCallerOf,
  createTokensOf,
  tokens,
} from './accounts/token-answer.ts'
import { verificationPages } from './accounts/verification-page.ts'
import { fullName } from './persons/person-name.ts'
import type { User } from './persons/sql/users.ts'
import type { SecondFactor } from './second-factor/second-factor.ts'
import { secondFactorAnswer, secondFactorRequired } from './second-factor/second-factor-answer.ts'
import type { LoginAttempts } from './sessions/login-attempts.ts'
import type { Sessions } from './sessions/sessions.ts'
import type { ExternalIdentities } from './sign-in/external-identities.ts'

export type AuthDeps = {
  guards: Guards
  accounts: Accounts
  externalIdentities: Pick<ExternalIdentities, 'signIn'>
  secondFactor: Pick<SecondFactor, 'challengeFor'>
  sessions: Sessions
  loginAttempts: LoginAttempts
  sql: Database
  hashAddress: (address: string) => string
  /** The gateway's public URL; if it is HTTPS, the refresh cookie is sent over HTTPS only. */
  publicUrl: string
}

const TOKEN_LENGTH_MAX = 256

const opaqueToken = z
  .string()
  .min(1)
  .max(TOKEN_LENGTH_MAX)
  .openapi({ example: 'q1Zb0H6rX2mD9c4vK8sT5wYfJ3nLpA7eGuRiOoVxBzM' })

const acknowledged = z.object({ message: z.string().openapi({ example: 'Done.' }) })

const signupRoute = ({ anybody }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/auth/signup',
    tags: ['Accounts'],
    summary: 'Signs up: makes an account and mails a verification link',
    description:
      'An account whose sign-up is older than 24 hours and was never verified goes to the person who signs up next: its ' +
      'password and links of before are worthless then.',
    ...anybody({ limit: 'SIGNUP', guardsLogin: true }),
    request: { body: jsonBody(z.strictObject({ email: emailAddress, password, fullName })) },
    responses: {
      201: jsonAnswer('The account; sign-in works once the address is verified', account),
      ...problemResponses(...BODY_PROBLEMS, 'EMAIL_ALREADY_REGISTERED', ...ANYBODY_PROBLEMS),
    },
  })

const verifyEmailRoute = ({ anybody }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/auth/verify-email',
    tags: ['Accounts'],
    summary: 'Verifies the e-mail address with the mailed token (24 hours, once)',
    description:
      'Anybody may have signed up with the address, so who verifies it shows that they made the account: with its ' +
      '`password`, or with a `newPassword` of their own, which makes the one of the sign-up worthless (`fullName` beside it ' +
      'corrects the name). The token alone is enough from the network that signed up. What is refused does not spend it.',
    ...anybody(),
    request: {
      body: jsonBody(
        z
          .strictObject({
            token: opaqueToken,
            password: password.nullish(),
            newPassword: password.nullish(),
            fullName: fullName.nullish(),
          })
          .refine(({ password, newPassword }) => password == null || newPassword == null, {
            path: ['newPassword'],
            error: 'must not stand beside password',
          })
          .refine(({ fullName, newPassword }) => fullName == null || newPassword != null, {
            path: ['fullName'],
            error: 'must stand beside newPassword',
          }),
      ),
    },
    responses: {
      200: jsonAnswer('The account, verified', account),
      ...problemResponses(
        ...BODY_PROBLEMS,
        'INVALID_VERIFICATION_TOKEN',
        'VERIFICATION_PROOF_REQUIRED',
        'PASSWORD_MISMATCH',
        ...ANYBODY_PROBLEMS,
      ),
    },
  })

const resendRoute = ({ anybody }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/auth/resend-verification',
    tags: ['Accounts'],
    summary: 'Mails a new verification link, if there is an account that needs one',
    description: 'Answers the same whether there is such an account or not.',
    ...anybody({ limit: 'MAIL', guardsLogin: true }),
    request: { body: jsonBody(z.strictObject({ email: emailAddress })) },
    responses: {
      200: jsonAnswer('Taken note of', acknowledged),
      ...problemResponses(...BODY_PROBLEMS, ...ANYBODY_PROBLEMS),
    },
  })

const forgotRoute = ({ anybody }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/auth/forgot-password',
    tags: ['Accounts'],
    summary: 'Mails a link to set a new password, if there is an account for it',
    description: 'Answers the same, and as fast, whether there is such an account or not.',
    ...anybody({ limit: 'MAIL', guardsLogin: true }),
    request: { body: jsonBody(z.strictObject({ email: emailAddress })) },
    responses: {
      200: jsonAnswer('Taken note of', acknowledged),
      ...problemResponses(...BODY_PROBLEMS, 'RATE_LIMIT_EXCEEDED', 'SERVICE_UNAVAILABLE'),
    },
  })

const resetRoute = ({ anybody }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/auth/reset-password',
    tags: ['Accounts'],
    summary: 'Sets a new password with the mailed token (1 hour, once)',
    description: 'Ends all sessions. A password that is refused does not spend the token.',
    ...anybody({ limit: 'LOGIN', guardsLogin: true }),
    request: { body: jsonBody(z.strictObject({ token: opaqueToken, password })) },
    responses: {
      200: jsonAnswer('The password is set', acknowledged),
      ...problemResponses(
        ...BODY_PROBLEMS,
        'INVALID_RESET_TOKEN',
        'SAME_PASSWORD',
        'RATE_LIMIT_EXCEEDED',
        'SERVICE_UNAVAILABLE',
      ),
    },
  })

const changePasswordRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/auth/change-password',
    tags: ['Accounts'],
    summary: 'Changes the password',
    description: 'Ends all other sessions; this one stays.',
    ...signedIn({ limit: 'LOGIN', guardsMoney: true }),
    request: { body: jsonBody(z.strictObject({ currentPassword: password, newPassword: password })) },
    responses: {
      200: jsonAnswer('The password is changed', acknowledged),
      ...problemResponses(
        ...BODY_PROBLEMS,
        ...SIGNED_IN_PROBLEMS,
        'PASSWORD_MISMATCH',
        'NO_PASSWORD',
        'SAME_PASSWORD',
      ),
    },
  })

const loginRoute = ({ anybody }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/auth/login',
    tags: ['Accounts'],
    summary: 'Signs in',
    description:
      '`"cookie": true` puts the refresh token into an HttpOnly cookie instead of the answer. Where the second factor ' +
      'is on, a challenge is answered instead of tokens, for `POST /v1/auth/2fa/verify`.',
    ...anybody({ limit: 'LOGIN', guardsLogin: true }),
    request: {
      body: jsonBody(
        z.strictObject({
          email: emailAddress,
          password,
          cookie: z.boolean().nullish().openapi({ example: false }),
        }),
      ),
    },
    responses: {
      200: jsonAnswer('Tokens of a new session, or a challenge', z.union([tokens, secondFactorRequired])),
      ...problemResponses(
        ...BODY_PROBLEMS,
        'INVALID_CREDENTIALS',
        'EMAIL_NOT_VERIFIED',
        'ACCOUNT_DISABLED',
        'CROSS_SITE_REQUEST',
        ...ANYBODY_PROBLEMS,
      ),
    },
  })

const externalRoute = ({ anybody }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/auth/external',
    tags: ['Accounts'],
    summary: "Signs in with a trusted issuer's token",
    description:
      "Such as a company's single sign-on; the setting TRUSTED_ISSUERS names the issuers. The token is taken here and " +
      'nowhere else: what comes back are tokens of a session of ours, which ends like any other. The identity must be ' +
      'linked first, with `POST /v1/users/me/external-identities`. The second factor is asked for all the same.',
    ...anybody({ limit: 'LOGIN', guardsLogin: true }),
    request: {
      body: jsonBody(z.strictObject({ token: externalToken, cookie: z.boolean().nullish() })),
    },
    responses: {
      200: jsonAnswer('Tokens of a new session, or a challenge', z.union([tokens, secondFactorRequired])),
      ...problemResponses(
        ...BODY_PROBLEMS,
        'EXTERNAL_TOKEN_INVALID',
        'EXTERNAL_IDENTITY_UNKNOWN',
        'ACCOUNT_DISABLED',
        'CROSS_SITE_REQUEST',
        ...ANYBODY_PROBLEMS,
      ),
    },
  })

const refreshRoute = ({ anybody }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/auth/refresh',
    tags: ['Accounts'],
    summary: 'Exchanges a refresh token for new tokens',
    description:
      'From the body or the cookie; the new one goes the same way. A used token may come again for 10 seconds, ' +
      'for the case that the answer was lost; after that it ends the session.',
    ...anybody(),
    request: {
      body: {
        content: { 'application/json': { schema: z.strictObject({ refreshToken: opaqueToken.nullish() }) } },
      },
    },
    responses: {
      200: jsonAnswer('New tokens of the same session', tokens),
      ...problemResponses(
        ...BODY_PROBLEMS,
        'REFRESH_TOKEN_INVALID',
        'REFRESH_TOKEN_REUSED',
        'CROSS_SITE_REQUEST',
        ...ANYBODY_PROBLEMS,
      ),
    },
  })

const logoutRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/auth/logout',
    tags: ['Accounts'],
    summary: 'Ends this session: its tokens stop working at once',
    ...signedIn(),
    responses: {
      200: jsonAnswer('The session has ended', acknowledged),
      ...problemResponses('PAYLOAD_TOO_LARGE', ...SIGNED_IN_PROBLEMS),
    },
  })

const logoutAllRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/auth/logout-all',
    tags: ['Accounts'],
    summary: 'Ends all sessions of the user, this one too',
    description: 'Access tokens stop working at once, on every device.',
    ...signedIn(),
    responses: {
      200: jsonAnswer(
        'How many sessions have ended',
        z.object({ ended: z.int().openapi({ example: 2 }), at: timestamp }),
      ),
      ...problemResponses('PAYLOAD_TOO_LARGE', ...SIGNED_IN_PROBLEMS),
    },
  })

/** Sign-up, verification, sign-in, refresh and sign-out. */
export const authRoutes = (deps: AuthDeps): Routes => {
  const { guards, accounts, externalIdentities, secondFactor, sessions, loginAttempts } = deps
  const { sql, hashAddress, publicUrl } = deps
  const routes = newRoutes()
  const secureCookies = publicUrl.startsWith('https:')
  const { origin } = new URL(publicUrl)
  const cookieOptions = cookieOptionsFor(secureCookies)
  const callerOf = createCallerOf(hashAddress)
  const tokensOf = createTokensOf(secureCookies)

  /** Only wrong passwords stay counted: correct ones are no guesses, and an unchecked one reveals nothing. */
  const checkPassword = async (
    context: Context<GatewayEnv>,
    { email, password }: { email: string; password: string },
    caller: Caller,
  ): Promise<User> => {
    const { taken, giveBack } = await loginAttempts.begin(email, caller.address)
    // No rate-limit headers while there is room: they would reveal other attempts for the account.
    if (taken.refused) enforceLimits(context, taken)
    try {
      const user = await accounts.checkPassword(email, password, caller)
      await giveBack()
      return user
    } catch (error) {
      if (!(error instanceof ProblemError && error.code === 'INVALID_CREDENTIALS')) await giveBack()
      throw error
    }
  }

  const rememberByMail = (context: Context<GatewayEnv>, userId: string) =>
    loginAttempts.rememberMail(sql, { userId, address: context.var.address })

  routes.openapi(signupRoute(guards), async context => {
    const user = await accounts.signUp(context.req.valid('json'), callerOf(context))
    return context.json(accountOf(user), 201)
  })

  routes.openapi(verifyEmailRoute(guards), async context => {
    const { token, password, newPassword, fullName } = context.req.valid('json')
    const user = await accounts.verifyEmail(
      {
        token,
        password: password ?? undefined,
        newPassword: newPassword ?? undefined,
        fullName: fullName ?? undefined,
      },
      callerOf(context),
    )
    await rememberByMail(context, user.id)
    return context.json(accountOf(user), 200)
  })

  routes.openapi(resendRoute(guards), context => {
    accounts.resendVerification(context.req.valid('json').email, context.var.traceparent)
    return context.json({ message: 'If there is an account that needs it, a mail is on its way.' }, 200)
  })

  routes.openapi(forgotRoute(guards), context => {
    accounts.forgotPassword(context.req.valid('json').email, callerOf(context))
    return context.json({ message: 'If there is such an account, a mail is on its way.' }, 200)
  })

  routes.openapi(resetRoute(guards), async context => {
    const { token, password } = context.req.valid('json')
    const { userId } = await accounts.resetPassword(token, password, callerOf(context))
    await rememberByMail(context, userId)
    return context.json({ message: 'The password is set; all sessions have ended.' }, 200)
  })

  routes.openapi(changePasswordRoute(guards), async context => {
    const { currentPassword, newPassword } = context.req.valid('json')
    await accounts.changePassword(
      sessionOf(context),
      { current: currentPassword, next: newPassword },
      callerOf(context),
    )
    return context.json({ message: 'The password is changed; all other sessions have ended.' }, 200)
  })

  routes.openapi(loginRoute(guards), async context => {
    const { email, password, cookie } = context.req.valid('json')
    if (cookie) refuseCrossSite(context, origin)
    const caller = callerOf(context)
    const user = await checkPassword(context, { email, password }, caller)
    const challengeToken = await secondFactor.challengeFor(user)
    if (challengeToken) return context.json(secondFactorAnswer(challengeToken), 200)
    return context.json(tokensOf(context, await sessions.start(user, caller), cookie === true), 200)
  })

  routes.openapi(externalRoute(guards), async context => {
    const { token, cookie } = context.req.valid('json')
    if (cookie) refuseCrossSite(context, origin)
    const caller = callerOf(context)
    const user = await externalIdentities.signIn(token, caller)
    const challengeToken = await secondFactor.challengeFor(user)
    if (challengeToken) return context.json(secondFactorAnswer(challengeToken), 200)
    const grant = await sessions.start(user, caller, 'external')
    return context.json(tokensOf(context, grant, cookie === true), 200)
  })

  routes.openapi(refreshRoute(guards), async context => {
    const fromBody = context.req.valid('json').refreshToken
    if (fromBody == null) refuseCrossSite(context, origin)
    const refreshToken = fromBody ?? getCookie(context, cookieName(secureCookies))
    if (!refreshToken)
      throw new ProblemError('REFRESH_TOKEN_INVALID', 'refreshToken: is required, or its cookie.')
    const grant = await sessions.refresh(refreshToken, context.var.traceparent)
    return context.json(tokensOf(context, grant, fromBody == null), 200)
  })

  routes.openapi(logoutRoute(guards), async context => {
    const { userId, sessionId } = sessionOf(context)
    await sessions.end({ userId, sessionId, reason: 'logout' }, context.var.traceparent)
    deleteCookie(context, cookieName(secureCookies), cookieOptions)
    return context.json({ message: 'The session has ended.' }, 200)
  })

  routes.openapi(logoutAllRoute(guards), async context => {
    const { userId } = context.var.user
    const ended = await sessions.end({ userId, reason: 'logout_all' }, context.var.traceparent)
    deleteCookie(context, cookieName(secureCookies), cookieOptions)
    return context.json({ ended: ended.length, at: new Date().toISOString() }, 200)
  })

  routes.route('/', verificationPages())
  routes.route('/', newPasswordPages())
  return routes
}
