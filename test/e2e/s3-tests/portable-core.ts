/**
 * The portable core of ceph/s3-tests: what a correct S3 service that is not Ceph must pass. The expression gives 599 of
 * the 1,049 cases of revision 8f0ae7b (with the one storage class STANDARD configured).
 */
const leftOut: Readonly<Record<string, readonly string[]>> = {
  'refused by AWS itself': ['fails_on_aws'],
  'known to fail on Ceph itself': ['fails_on_rgw'],
  'Ceph’s bucket logging': ['bucket_logging', 'bucket_logging_cleanup', 'fails_without_logging_rollover'],
  'Signature Version 2': ['auth_aws2'],
  'S3 Select': ['s3select'],
  'SNS topics': ['sns'],
  'Ceph’s cloud tiers': ['cloud_transition', 'cloud_restore', 'target_by_bucket'],
  'IAM and STS services': [
    ...[
      'iam_account',
      'iam_user',
      'iam_role',
      'iam_tenant',
      'iam_cross_account',
      'user_policy',
      'role_policy',
    ],
    ...['group', 'group_policy', 'session_policy', 'abac_test', 'test_of_sts', 'webidentity_test'],
    ...['token_claims_trust_policy_test', 'token_principal_tag_role_policy_test'],
    ...['token_request_tag_trust_policy_test', 'token_resource_tags_test', 'token_role_tags_test'],
    'token_tag_keys_test',
  ],
}

/** For `pytest -m`. */
export const portableCoreMarks = `not (${Object.values(leftOut).flat().join(' or ')})`

/** Cases that the expression selects in the revision that the lists were made for. */
export const portableCoreCases = 599
export const revision = '8f0ae7b'

/** Which part of S3 a case is about: for reading a long list of failures. First match wins. */
const areas: readonly (readonly [string, RegExp])[] = [
  ['encryption', /encrypt|sse_|_sse|kms|_enc\[|enc_conflict/],
  ['lifecycle', /lifecycle/],
  ['object-lock', /object_lock|retention|legal_hold|governance|worm/],
  ['iam', /oidc|iam_|sts_/],
  ['post', /post_object/],
  ['cors', /cors/],
  ['policy', /policy|public_block|public_access|ownership|block_public/],
  ['acl', /acl|grant|access_bucket|object_raw|object_anon|bucket_list_objects_anonymous|anonymous/],
  ['checksums', /checksum|crc|sha256/],
  ['multipart', /multipart|mpu/],
  ['versioning', /version|delete_marker/],
  ['headers', /bad_|expect|contentlength|contenttype|header/],
  ['listing', /list|delimiter|marker|maxkeys|prefix/],
  ['objects', /./],
]

export function areaOf(name: string): string {
  return areas.find(([, pattern]) => pattern.test(name))?.[0] ?? 'objects'
}
