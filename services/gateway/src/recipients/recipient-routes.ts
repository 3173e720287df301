import { createRoute, z } from '@hono/zod-openapi'
import { parseWalletCode } from '@pennywire/contracts/wallet-code.ts'
import {
  type Guards,
  jsonAnswer,
  KEY_PROBLEMS,
  newRoutes,
  problemResponses,
  type Routes,
} from '../http/define-route.ts'
import type { Names } from '../identity/persons/names.ts'
import type { WalletFacts } from '../ledger/sql/ledger-reads.ts'
import { maskedName } from '../money/money-headers.ts'
import { ProblemError } from '../problems/problem.ts'

export type RecipientDeps = {
  guards: Guards
  names: Names
  readWalletByCode: (code: string) => Promise<WalletFacts | undefined>
}

const lookUpRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/recipients/{walletCode}',
    tags: ['Wallets'],
    summary: 'Looks up who a wallet code belongs to',
    description:
      'The name is masked and no balance is told. A code with a typing error is found out before the look-up.',
    ...signedIn({ scope: 'wallets:read', limit: 'RECIPIENT' }),
    request: { params: z.object({ walletCode: z.string().max(40).openapi({ example: 'PW-7K2M9QXA' }) }) },
    responses: {
      200: jsonAnswer(
        'The recipient',
        z
          .object({
            walletId: z.uuid(),
            walletCode: z.string().openapi({ example: 'PW-7K2M9QXA' }),
            currency: z.string().openapi({ example: 'USD' }),
            name: z.string().openapi({ example: 'Bob B.' }),
          })
          .openapi('Recipient'),
      ),
      ...problemResponses('RECIPIENT_NOT_FOUND', 'VALIDATION_ERROR', ...KEY_PROBLEMS),
    },
  })

/** Looks up the recipient of money before it is sent. */
export const recipientRoutes = ({ guards, names, readWalletByCode }: RecipientDeps): Routes => {
  const routes = newRoutes()
  routes.openapi(lookUpRoute(guards), async context => {
    const code = parseWalletCode(context.req.valid('param').walletCode)
    if (code === null) {
      throw new ProblemError(
        'RECIPIENT_NOT_FOUND',
        'walletCode: it is no wallet code; is there a typing error?',
      )
    }
    const wallet = await readWalletByCode(code)
    if (!wallet?.userId || wallet.status === 'closed') {
      throw new ProblemError('RECIPIENT_NOT_FOUND', 'walletCode: there is no such wallet')
    }
    const name = (await names.namesOf([wallet.userId])).get(wallet.userId)
    return context.json(
      { walletId: wallet.id, walletCode: code, currency: wallet.currency, name: maskedName(name) },
      200,
    )
  })
  return routes
}
