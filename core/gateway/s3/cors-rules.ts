/**
 * CORS rules and their matching, pure. An allowed origin or header has at most one `*`, so matching is a look at the two
 * ends of the text: linear, and no regular expression is made from what a client sent.
 * https://docs.aws.amazon.com/AmazonS3/latest/userguide/cors.html
 */
export interface CorsRule {
  readonly id?: string
  readonly allowedOrigins: readonly string[]
  readonly allowedMethods: readonly string[]
  readonly allowedHeaders: readonly string[]
  readonly exposeHeaders: readonly string[]
  readonly maxAgeSeconds?: number
}

export const corsMethods: readonly string[] = ['GET', 'PUT', 'POST', 'DELETE', 'HEAD']
/** S3's own limit. */
export const maxCorsRules = 100

/** Whether `pattern`, with at most one `*` for any run of characters, covers the text. */
export function matchesSingleWildcard(pattern: string, text: string): boolean {
  const star = pattern.indexOf('*')
  if (star < 0) return pattern === text
  const head = pattern.slice(0, star)
  const tail = pattern.slice(star + 1)
  return text.length >= head.length + tail.length && text.startsWith(head) && text.endsWith(tail)
}

/** The first rule that allows the origin, the method and every requested header. */
export function findCorsRule(
  rules: readonly CorsRule[],
  origin: string,
  method: string,
  requestedHeaders: readonly string[],
): CorsRule | undefined {
  return rules.find(
    (rule) =>
      rule.allowedMethods.includes(method) &&
      rule.allowedOrigins.some((pattern) => matchesSingleWildcard(pattern, origin)) &&
      requestedHeaders.every((name) =>
        rule.allowedHeaders.some((pattern) =>
          matchesSingleWildcard(pattern.toLowerCase(), name.toLowerCase()),
        ),
      ),
  )
}

/** The headers of the answer to a cross-origin request that the rule allows. */
export function corsAnswer(
  rule: CorsRule,
  origin: string,
  requestedHeaders: readonly string[],
): Readonly<Record<string, string>> {
  const anyOrigin = rule.allowedOrigins.includes('*')
  return {
    'access-control-allow-origin': anyOrigin ? '*' : origin,
    'access-control-allow-methods': rule.allowedMethods.join(', '),
    // Credentials with `*` are forbidden by the Fetch standard.
    ...(anyOrigin ? {} : { 'access-control-allow-credentials': 'true' }),
    ...(requestedHeaders.length > 0 ? { 'access-control-allow-headers': requestedHeaders.join(', ') } : {}),
    ...(rule.exposeHeaders.length > 0
      ? { 'access-control-expose-headers': rule.exposeHeaders.join(', ') }
      : {}),
    ...(rule.maxAgeSeconds === undefined ? {} : { 'access-control-max-age': String(rule.maxAgeSeconds) }),
    vary: 'Origin, Access-Control-Request-Headers, Access-Control-Request-Method',
  }
}

export function serializeCors(rules: readonly CorsRule[]): string {
  return JSON.stringify(rules)
}

/** Our own form, written by `serializeCors`. */
export function deserializeCors(text: string): readonly CorsRule[] {
  return JSON.parse(text) as readonly CorsRule[]
}
