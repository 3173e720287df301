import { createRoute, z } from '@hono/zod-openapi'
import type { Clock } from '@pennywire/runtime/clock.ts'
import { sessionOf } from '../../http/context.ts'
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
import { password } from '../accounts/account-fields.ts'
import type { Tokens } from '../sessions/tokens.ts'
import { PIN_FORM, type Pins } from './pin.ts'

export type PinDeps = { guards: Guards; pins: Pins; tokens: Tokens; clock: Clock }

/** A PIN in a request body. The error message never contains the value. */
export const pinField = z.string().regex(PIN_FORM, 'must be 4 to 6 digits').openapi({ example: '482915' })

const setRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/pin',
    tags: ['PIN'],
    summary: 'Sets the PIN that confirms payments',
    description:
      'Not one that everybody tries first: a digit repeated, a run, a repeated group. It pays from then on, so it needs ' +
      'more than an access token: a sign-in of the last 5 minutes, or the `password`; or set it by a mailed code, with ' +
      '`POST /v1/pin/reset-request` and `POST /v1/pin/reset`.',
    ...signedIn({ limit: 'PIN', guardsMoney: true }),
    request: {
      body: jsonBody(
        z
          .strictObject({ pin: pinField, password: password.nullish() })
          .openapi({ example: { pin: '482915' } }),
      ),
    },
    responses: {
      201: jsonAnswer('The PIN is set', z.object({ pinSet: z.literal(true) })),
      ...problemResponses(
        ...BODY_PROBLEMS,
        ...SIGNED_IN_PROBLEMS,
        'PIN_ALREADY_SET',
        'REAUTHENTICATION_REQUIRED',
        'PASSWORD_MISMATCH',
        'NO_PASSWORD',
      ),
    },
  })

const verifyRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/pin/verify',
    tags: ['PIN'],
    summary: 'Checks the PIN and gives a step-up token',
    description:
      'Sent as `Step-Up-Token`, it stands for the PIN in any number of payments of this session until it expires. ' +
      'The third wrong PIN in a row locks it for 24 hours; incoming money still works.',
    ...signedIn({ limit: 'PIN', guardsMoney: true }),
    request: { body: jsonBody(z.strictObject({ pin: pinField })) },
    responses: {
      200: jsonAnswer(
        'The step-up token',
        z
          .object({
            stepUpToken: z
              .string()
              .openapi({ example: 'eyJhbGciOiJSUzI1NiJ9.eyJzaWQiOiI1YjBlN2Y2YyJ9.c2lnbmF0dXJl' }),
            expiresAt: timestamp,
          })
          .openapi('StepUp'),
      ),
      ...problemResponses(
        ...BODY_PROBLEMS,
        ...SIGNED_IN_PROBLEMS,
        'INVALID_PIN',
        'PIN_LOCKED',
        'PIN_NOT_SET',
      ),
    },
  })

const readRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/pin',
    tags: ['PIN'],
    summary: 'Whether a PIN is set and how many tries are left',
    description: 'A lock that has run out is none: nothing needs to be done to lift it.',
    ...signedIn(),
    responses: {
      200: jsonAnswer(
        'What stands of the PIN',
        z
          .object({
            pinSet: z.boolean(),
            attemptsRemaining: z.int().openapi({ example: 3 }),
            lockedUntil: timestamp.nullable(),
          })
          .openapi('PinState', { example: { pinSet: true, attemptsRemaining: 3, lockedUntil: null } }),
      ),
      ...problemResponses(...SIGNED_IN_PROBLEMS),
    },
  })

const pinChanged = jsonAnswer('The new PIN is set', z.object({ pinChanged: z.literal(true) }))

const changeRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/pin/change',
    tags: ['PIN'],
    summary: 'Sets another PIN, with the one that is set',
    description:
      'A wrong `currentPin` counts as a try, like any other. Ends all other sessions; this one stays.',
    ...signedIn({ limit: 'PIN', guardsMoney: true }),
    request: {
      body: jsonBody(
        z
          .strictObject({ currentPin: pinField, newPin: pinField })
          .openapi({ example: { currentPin: '482915', newPin: '730164' } }),
      ),
    },
    responses: {
      200: pinChanged,
      ...problemResponses(
        ...BODY_PROBLEMS,
        ...SIGNED_IN_PROBLEMS,
        'INVALID_PIN',
        'PIN_LOCKED',
        'PIN_NOT_SET',
      ),
    },
  })

const resetRequestRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/pin/reset-request',
    tags: ['PIN'],
    summary: 'Mails a code with which a forgotten PIN is replaced, or the first one set',
    description:
      'Six digits, good for 15 minutes, once, for at most 5 tries; a new one makes the one before worthless. At most ' +
      '5 within 24 hours.',
    ...signedIn({ limit: 'MAIL', guardsMoney: true }),
    responses: {
      202: jsonAnswer('The mail is on its way', z.object({ expiresAt: timestamp })),
      ...problemResponses(...SIGNED_IN_PROBLEMS),
    },
  })

const resetRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/pin/reset',
    tags: ['PIN'],
    summary: 'Sets another PIN, or the first one, with the mailed code',
    description:
      'Ends a lock of the PIN and all other sessions, and within moments lifts the freezes that came from wrong PINs, ' +
      'and no others.',
    ...signedIn({ limit: 'PIN', guardsMoney: true }),
    request: {
      body: jsonBody(
        z
          .strictObject({ otp: sixDigits, newPin: pinField })
          .openapi({ example: { otp: '048213', newPin: '730164' } }),
      ),
    },
    responses: {
      200: pinChanged,
      ...problemResponses(...BODY_PROBLEMS, ...SIGNED_IN_PROBLEMS, 'INVALID_OTP'),
    },
  })

/** Sets, verifies and replaces the PIN. All routes need a session: no user can lock another user's PIN. */
export const pinRoutes = ({ guards, pins, tokens, clock }: PinDeps): Routes => {
  const routes = newRoutes()

  routes.openapi(setRoute(guards), async context => {
    const { pin, password } = context.req.valid('json')
    await pins.setPin(sessionOf(context), { pin, password: password ?? undefined }, context.var.traceparent)
    return context.json({ pinSet: true as const }, 201)
  })

  routes.openapi(verifyRoute(guards), async context => {
    const session = sessionOf(context)
    await pins.verifyPin(session.userId, context.req.valid('json').pin, context.var.traceparent)
    const { stepUpToken, expiresAt } = await tokens.signStepUp(session, clock.now())
    return context.json({ stepUpToken, expiresAt: expiresAt.toISOString() }, 200)
  })

  routes.openapi(readRoute(guards), async context => {
    const { set, attemptsRemaining, lockedUntil } = await pins.readPin(context.var.user.userId)
    return context.json(
      { pinSet: set, attemptsRemaining, lockedUntil: lockedUntil?.toISOString() ?? null },
      200,
    )
  })

  routes.openapi(changeRoute(guards), async context => {
    await pins.changePin(sessionOf(context), context.req.valid('json'), context.var.traceparent)
    return context.json({ pinChanged: true as const }, 200)
  })

  routes.openapi(resetRequestRoute(guards), async context => {
    const { expiresAt } = await pins.requestReset(context.var.user.userId, context.var.traceparent)
    return context.json({ expiresAt: expiresAt.toISOString() }, 202)
  })

  routes.openapi(resetRoute(guards), async context => {
    await pins.resetPin(sessionOf(context), context.req.valid('json'), context.var.traceparent)
    return context.json({ pinChanged: true as const }, 200)
  })

  return routes
}
