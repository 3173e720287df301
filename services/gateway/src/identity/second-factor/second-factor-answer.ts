import { z } from '@hono/zod-openapi'
import { CHALLENGE_SECONDS } from './second-factor.ts'

/** What a sign-in answers whose first step was right, where the second factor is on. */
export const secondFactorRequired = z
  .object({
    secondFactorRequired: z.literal(true),
    challengeToken: z.string().openapi({ description: 'For `POST /v1/auth/2fa/verify`, once' }),
    expiresIn: z.int().openapi({ description: 'Seconds', example: CHALLENGE_SECONDS }),
  })
  .openapi('SecondFactorRequired')

/** That answer. */
export const secondFactorAnswer = (challengeToken: string) => ({
  secondFactorRequired: true as const,
  challengeToken,
  expiresIn: CHALLENGE_SECONDS,
})
