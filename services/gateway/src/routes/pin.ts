import { createRoute, z } from '@hono/zod-openapi'
import { PIN_FORM, type Pins } from '../identity/pin.ts'
import type { Tokens } from '../identity/tokens.ts'
import {
  BODY_PROBLEMS,
  type Guards,
  jsonAnswer,
  jsonBody,
  newRoutes,
  problemResponses,
  type Routes,
  SIGNED_IN_PROBLEMS,
  timestamp,
} from './define-route.ts'

export type PinParts = { guards: Guards; pins: Pins; tokens: Tokens }

/** A PIN in a body. The message never repeats what was sent. */
export const pinField = z.string().regex(PIN_FORM, 'must be 4 to 6 digits').openapi({ example: '482915' })

const setRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/pin',
    tags: ['PIN'],
    summary: 'Sets the PIN that confirms payments',
    description: 'Not one that everybody tries first: a digit repeated, a run, a repeated group.',
    ...signedIn({ limit: 'PIN', guardsMoney: true }),
    request: { body: jsonBody(z.strictObject({ pin: pinField })) },
    responses: {
      201: jsonAnswer('The PIN is set', z.object({ pinSet: z.literal(true) })),
      ...problemResponses(...BODY_PROBLEMS, ...SIGNED_IN_PROBLEMS, 'PIN_ALREADY_SET'),
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

/** Setting and proving the PIN. */
export const pinRoutes = ({ guards, pins, tokens }: PinParts): Routes => {
  const routes = newRoutes()

  routes.openapi(setRoute(guards), async context => {
    await pins.setPin(context.var.user.userId, context.req.valid('json').pin, context.var.traceparent)
    return context.json({ pinSet: true as const }, 201)
  })

  routes.openapi(verifyRoute(guards), async context => {
    const { user, traceparent } = context.var
    await pins.verifyPin(user.userId, context.req.valid('json').pin, traceparent)
    const { stepUpToken, expiresAt } = await tokens.signStepUp(user, Date.now())
    return context.json({ stepUpToken, expiresAt: expiresAt.toISOString() }, 200)
  })

  return routes
}
