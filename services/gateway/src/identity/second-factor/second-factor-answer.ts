import { z } from '@hono/zod-openapi'
import { CHALLENGE_SECONDS } from './second-factor.ts'

/** The response of a sign-in after a correct first step, if the second factor is on. */
export const secondFactorRequired = z
  .object({
    secondFactorRequired: z.literal(true),
    challengeToken: z.string().openapi({ description: 'For `POST /v1/auth/2fa/verify`, once' }),
    expiresIn: z.int().openapi({ description: 'Seconds', example: CHALLENGE_SECONDS }),
  })
  .openapi('SecondFactorRequired')

/** Builds the `SecondFactorRequired` response. */
export const secondFactorAnswer = (challengeToken: string) => ({
  secondFactorRequired: true as const,
  challengeToken,
  expiresIn: CHALLENGE_SECONDS,
})
