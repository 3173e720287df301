import { domainToASCII } from 'node:url'
import { z } from '@hono/zod-openapi'

const LENGTH_MAX = 254
const LOCAL = /^(?!\.)(?!.*\.\.)[a-z0-9_'+.-]{0,63}[a-z0-9_+-]$/
const DOMAIN = /^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+(?!\d+$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/

/**
 * The canonical form in which an address is stored and compared: without surrounding space, in lower case, an
 * international domain as the ASCII that mail servers look up (bücher.example is xn--bcher-kva.example). A plus tag
 * stays. Null if the text is no address that mails are sent to.
 */
export const canonicalEmail = (text: string): string | null => {
  const address = text.trim()
  const at = address.lastIndexOf('@')
  const local = address.slice(0, Math.max(at, 0)).toLowerCase()
  // `domainToASCII` reads URL hosts, which may be escaped or IP addresses; a mail's domain is letters and digits.
  const domain = /^[\p{L}\p{M}\p{N}.。-]+$/u.test(address.slice(at + 1))
    ? domainToASCII(address.slice(at + 1))
    : ''
  const canonical = `${local}@${domain}`
  return LOCAL.test(local) && DOMAIN.test(domain) && canonical.length <= LENGTH_MAX ? canonical : null
}

/** An e-mail address in a request, read in its canonical form. */
export const emailAddress = z
  .string()
  // Room for an international domain and the space around it; `canonicalEmail` checks the final length.
  .max(LENGTH_MAX * 2)
  .transform((text, context) => {
    const canonical = canonicalEmail(text)
    if (canonical !== null) return canonical
    context.issues.push({ code: 'custom', message: 'must be an e-mail address', input: text })
    return z.NEVER
  })
  .openapi({ type: 'string', format: 'email', example: 'alice@example.com' })
