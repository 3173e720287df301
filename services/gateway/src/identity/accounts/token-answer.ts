import { z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { setCookie } from 'hono/cookie'
import type { Caller } from '../../access/requester.ts'
import type { GatewayEnv } from '../../http/context.ts'
import type { Grant } from '../sessions/sessions.ts'
import { ABSOLUTE_DAYS } from '../sessions/sql/sessions.ts'
import { account, accountOf } from './account-fields.ts'

/** The response body of a sign-in or refresh. */
export const tokens = z
  .object({
    accessToken: z.string().openapi({
      description: 'For `Authorization: Bearer`; a JWT',
      example: 'eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiI1YjBlN2Y2YyJ9.c2lnbmF0dXJl',
    }),
    tokenType: z.literal('Bearer'),
    expiresIn: z.int().openapi({ description: 'Seconds', example: 900 }),
    refreshToken: z.string().optional().openapi({
      description: 'For one refresh; absent where it went into the cookie',
      example: 'q1Zb0H6rX2mD9c4vK8sT5wYfJ3nLpA7eGuRiOoVxBzM',
    }),
    user: account
      .extend({ roles: z.array(z.string()).openapi({ example: ['user'] }) })
      .openapi('SignedInAccount', {
        example: {
          id: '5b0e7f6c-2a43-4d9e-9c63-6f5a1c0a7f11',
          email: 'alice@example.com',
          fullName: 'Alice Smith',
          emailVerified: true,
          roles: ['user'],
        },
      }),
  })
  .openapi('Tokens')

/** A browser lets nobody but an HTTPS page of ours set a cookie with this prefix, nor read it as another's. */
export const cookieName = (secure: boolean) => `${secure ? '__Secure-' : ''}pennywire_refresh`
const COOKIE_SECONDS = ABSOLUTE_DAYS * 24 * 60 * 60

/** The path limits the cookie to the routes that need it; SameSite stops other sites from making a browser send it. */
export const cookieOptionsFor = (secure: boolean) =>
  ({ path: '/v1/auth', httpOnly: true, sameSite: 'Strict', secure }) as const

/** Reads the caller's address, user agent and trace context from a request. */
export const createCallerOf =
  (hashAddress: (address: string) => string) =>
  (context: Context<GatewayEnv>): Caller => ({
    address: context.var.address,
    addressHash: hashAddress(context.var.address),
    userAgent: context.req.header('user-agent'),
    traceparent: context.var.traceparent,
  })

/** Builds the response with a session's tokens; on request the refresh token goes into the cookie instead. */
export const createTokensOf =
  (secureCookies: boolean) => (context: Context<GatewayEnv>, grant: Grant, byCookie: boolean) => {
    const { accessToken, expiresIn, refreshToken, user } = grant
    if (byCookie) {
      setCookie(context, cookieName(secureCookies), refreshToken, {
        ...cookieOptionsFor(secureCookies),
        maxAge: COOKIE_SECONDS,
      })
    }
    return {
      accessToken,
      tokenType: 'Bearer' as const,
      expiresIn,
      ...(byCookie ? {} : { refreshToken }),
      user: { ...accountOf(user), roles: user.roles },
    }
  }
