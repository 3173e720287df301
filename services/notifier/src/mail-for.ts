/** The templates that this version can send. */
export const MAIL_TEMPLATES: readonly string[] = ['verify_email']

export type Mail = { subject: string; text: string; html: string }

/** The mail with which somebody proves that an address is theirs. The link stands alone on its line of the text. */
export const verifyEmailMail = (fullName: string, secret: { url: string; token: string }): Mail => {
  const link = `${secret.url}?token=${secret.token}`
  return {
    subject: 'Verify your e-mail address',
    text: [
      `Hello ${fullName},`,
      'please verify your e-mail address by opening this link:',
      link,
      'If you did not sign up at Pennywire, ignore this mail.',
      '',
    ].join('\n\n'),
    html: [
      `<p>Hello ${escapeHtml(fullName)},</p>`,
      `<p>please verify your e-mail address by opening this link:</p>`,
      `<p><a href="${escapeHtml(link)}">${escapeHtml(link)}</a></p>`,
      '<p>If you did not sign up at Pennywire, ignore this mail.</p>',
      '',
    ].join('\n'),
  }
}

const ENTITIES: Record<string, string> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}

const escapeHtml = (text: string): string => text.replace(/[&<>"']/g, character => ENTITIES[character]!)
