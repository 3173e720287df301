import { createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { getCookie, setCookie } from 'hono/cookie'
import { type GatewayEnv, sessionOf } from '../../http/context.ts'
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
} from '../../http/define-route.ts'
import { ProblemError } from '../../problems/problem.ts'
import { password } from '../accounts/account-fields.ts'
import { createCallerOf, createTokensOf, tokens } from '../accounts/token-answer.ts'
import type { SecondFactor } from '../second-factor/second-factor.ts'
import { secondFactorAnswer, secondFactorRequired } from '../second-factor/second-factor-answer.ts'
import type { Sessions } from '../sessions/sessions.ts'
import { linkedIdentity, linkedIdentityView } from './external-identity-routes.ts'
import { type Outcome, REQUEST_SECONDS, type SocialLogin } from './social-login.ts'

const tags = ['Accounts']
const URL_LENGTH_MAX = 2_048
/** Parameters from providers stay below it, although some codes are whole JWTs. */
const PARAMETER_LENGTH_MAX = 3_000

const providerName = z.string().max(32).openapi({ example: 'google' })
const returnTo = z.string().max(URL_LENGTH_MAX).optional().openapi({
  description: 'Where the browser goes afterwards: one of the URLs of the setting `OIDC_RETURN_URLS`',
  example: 'https://app.example/signed-in',
})
const parameter = z.string().max(PARAMETER_LENGTH_MAX).optional()

const listRoute = ({ anybody }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/auth/oidc',
    tags,
    summary: 'The providers through which people sign up and in',
    ...anybody(),
    responses: {
      200: jsonAnswer(
        'All of them',
        z.object({
          items: z.array(
            z.object({
              name: providerName,
              label: z.string().openapi({ example: 'Google' }),
              url: z.string().openapi({ example: 'https://pay.example/v1/auth/oidc/google' }),
            }),
          ),
        }),
      ),
      ...problemResponses(...ANYBODY_PROBLEMS),
    },
  })

const beginRoute = ({ anybody }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/auth/oidc/{provider}',
    tags,
    summary: 'Sends the browser to a provider, to sign up or in',
    description:
      'To be opened by the browser itself. A cookie binds what comes back to this browser, for 10 minutes. What goes ' +
      'wrong is told at `returnTo#error=CODE` where there is a `returnTo`.',
    ...anybody({ limit: 'LOGIN', guardsLogin: true }),
    request: { params: z.object({ provider: providerName }), query: z.strictObject({ returnTo }) },
    responses: {
      302: { description: 'To the provider' },
      303: { description: 'Back to `returnTo`, with an error' },
      ...problemResponses('OIDC_PROVIDER_NOT_FOUND', 'VALIDATION_ERROR', ...ANYBODY_PROBLEMS),
    },
  })

const outcome = z.union([
  tokens
    .extend({
      newUser: z.boolean().openapi({ description: 'Whether this made the account', example: true }),
    })
    .openapi('TokensByProvider'),
  secondFactorRequired,
  z.object({ linked: linkedIdentity }),
])

const callbackRoute = ({ anybody }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/auth/oidc/{provider}/callback',
    tags,
    summary: 'Where the provider sends the browser back to',
    description:
      'Signs in whom the identity is linked to, or makes an account of the address that the provider has verified, ' +
      'or links the identity where that was asked for. With a `returnTo` the refresh token goes into the cookie and ' +
      'the browser to `returnTo`, else the tokens are answered. The second factor is asked for all the same: ' +
      '`returnTo#challengeToken=…`.',
    // Without the LOGIN limit: the request that the callback spends is already counted, and there is nothing to guess.
    ...anybody({ guardsLogin: true }),
    request: {
      params: z.object({ provider: providerName }),
      query: z.object({ code: parameter, state: parameter, error: parameter, iss: parameter }),
    },
    responses: {
      200: jsonAnswer('Tokens of a new session, a challenge, or the identity that is linked now', outcome),
      303: { description: 'To `returnTo`: signed in, or with a challenge or an error behind the `#`' },
      ...problemResponses(
        'OIDC_STATE_INVALID',
        'OIDC_REFUSED',
        'OIDC_PROVIDER_NOT_FOUND',
        'EXTERNAL_EMAIL_NOT_VERIFIED',
        'EXTERNAL_IDENTITY_NOT_LINKED',
        'EXTERNAL_IDENTITY_TAKEN',
        'INVALID_CREDENTIALS',
        'ACCOUNT_DISABLED',
        'VALIDATION_ERROR',
        ...ANYBODY_PROBLEMS,
      ),
    },
  })

const linkRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/users/me/external-identities/oidc',
    tags,
    summary: 'Begins to link an identity at a provider',
    description:
      'The browser that asked goes to `authorizationUrl` within 10 minutes, and comes back with the identity linked. ' +
      'The session must still be open then.',
    ...signedIn({ limit: 'LOGIN', guardsMoney: true }),
    request: {
      body: jsonBody(z.strictObject({ provider: providerName, password, returnTo: returnTo.nullable() })),
    },
    responses: {
      200: jsonAnswer(
        'Where the browser goes; the cookie comes with it',
        z.object({
          authorizationUrl: z.string().openapi({ example: 'https://accounts.example/authorize?state=…' }),
          expiresAt: timestamp,
        }),
      ),
      ...problemResponses(
        ...BODY_PROBLEMS,
        ...SIGNED_IN_PROBLEMS,
        'PASSWORD_MISMATCH',
        'NO_PASSWORD',
        'OIDC_PROVIDER_NOT_FOUND',
      ),
    },
  })

/**
 * Sign-up, sign-in and linking through OpenID Connect providers. The cookie is `__Host-` over HTTPS, for which its path
 * must be `/`: so not even a compromised sibling subdomain can plant one, and with it a sign-in as another user. Lax,
 * because the provider's page sends the browser back.
 */
export const oidcRoutes = (deps: {
  guards: Guards
  socialLogin: SocialLogin
  secondFactor: Pick<SecondFactor, 'challengeFor'>
  sessions: Pick<Sessions, 'start'>
  hashAddress: (address: string) => string
  publicUrl: string
}): Routes => {
  const { guards, socialLogin, secondFactor, sessions, hashAddress, publicUrl } = deps
  const routes = newRoutes()
  const secure = publicUrl.startsWith('https:')
  const cookieName = `${secure ? '__Host-' : ''}pennywire_oidc`
  const callerOf = createCallerOf(hashAddress)
  const tokensOf = createTokensOf(secure)

  const browserOf = (context: Context<GatewayEnv>) => getCookie(context, cookieName)
  const bind = (context: Context<GatewayEnv>, browser: string) =>
    setCookie(context, cookieName, browser, {
      path: '/',
      httpOnly: true,
      sameSite: 'Lax',
      secure,
      maxAge: REQUEST_SECONDS,
    })

  /** Puts `news` behind the `#`: browsers send the fragment to no server, so no log contains it. */
  const sendBack = (context: Context<GatewayEnv>, to: string, news: Record<string, string> = {}) => {
    const fragment = new URLSearchParams(news).toString()
    return context.redirect(fragment === '' ? to : `${to}#${fragment}`, 303)
  }

  const orSendBack = async <Answer>(
    context: Context<GatewayEnv>,
    to: string | undefined,
    answer: () => Promise<Answer>,
  ) => {
    try {
      return await answer()
    } catch (error) {
      if (to === undefined || !(error instanceof ProblemError)) throw error
      return sendBack(context, to, { error: error.code })
    }
  }

  const answerOutcome = async (context: Context<GatewayEnv>, outcome: Outcome, to: string | undefined) => {
    if ('linked' in outcome) {
      return to === undefined
        ? context.json({ linked: linkedIdentityView(outcome.linked) }, 200)
        : sendBack(context, to, { linked: outcome.linked.id })
    }
    const { user, newUser } = outcome
    const challengeToken = await secondFactor.challengeFor(user)
    if (challengeToken) {
      return to === undefined
        ? context.json(secondFactorAnswer(challengeToken), 200)
        : sendBack(context, to, { challengeToken })
    }
    const grant = await sessions.start(user, callerOf(context), 'oidc')
    const answer = { ...tokensOf(context, grant, to !== undefined), newUser }
    if (to === undefined) return context.json(answer, 200)
    return sendBack(context, to, newUser ? { newUser: 'true' } : {})
  }

  routes.openapi(listRoute(guards), context => {
    const items = socialLogin.providers.map(({ name, label }) => ({
      name,
      label,
      url: `${publicUrl}/v1/auth/oidc/${name}`,
    }))
    return context.json({ items }, 200)
  })

  routes.openapi(beginRoute(guards), async context => {
    const { provider } = context.req.valid('param')
    const { returnTo } = context.req.valid('query')
    socialLogin.assertReturnTo(returnTo)
    return orSendBack(context, returnTo, async () => {
      const { url, browser } = await socialLogin.begin({ provider, returnTo, browser: browserOf(context) })
      bind(context, browser)
      return context.redirect(url.href, 302)
    })
  })

  routes.openapi(callbackRoute(guards), async context => {
    const { provider } = context.req.valid('param')
    const { state } = context.req.valid('query')
    const request = await socialLogin.take({ provider, state, browser: browserOf(context) })
    const to = request.returnTo ?? undefined
    return orSendBack(context, to, async () => {
      const { search } = new URL(context.req.url)
      return answerOutcome(context, await socialLogin.complete(request, search, callerOf(context)), to)
    })
  })

  routes.openapi(linkRoute(guards), async context => {
    const { provider, password, returnTo } = context.req.valid('json')
    const { userId, sessionId } = sessionOf(context)
    const { url, browser, expiresAt } = await socialLogin.beginLink({
      ...{ provider, password, returnTo: returnTo ?? undefined, userId, sessionId },
      browser: browserOf(context),
    })
    bind(context, browser)
    return context.json({ authorizationUrl: url.href, expiresAt: expiresAt.toISOString() }, 200)
  })

  return routes
}
