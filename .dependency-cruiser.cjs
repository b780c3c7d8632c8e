// Who may import whom. The table is in README.md ("Folders"); a slip fails `npm run check`.
const only = (name, from, to, comment) => ({ name, severity: 'error', comment, from: { path: from }, to: { path: '^(core|federation|plugins|native|sdk|test)/', pathNot: to } })
module.exports = {
  forbidden: [
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } } },
    only('contract-imports-nothing', '^core/contract/', '^core/contract/'),
    ...['catalog', 'cluster', 'protocol', 'gateway', 'qos', 'control'].map((part) =>
      only(`core-${part}`, `^core/${part}/`, `^core/(contract|telemetry|${part})/`),
    ),
    // The console speaks the admin methods in HTTP; its pages are a client like any other.
    only('core-console', '^core/console/(?!web/)', '^core/(contract|telemetry|control|console/(?!web/))'),
    only('core-console-web', '^core/console/web/', '^(core/console/web/|sdk/)'),
    only('core-telemetry', '^core/telemetry/', '^core/(contract|telemetry)/'),
    only('federation', '^federation/', '^(core/(contract|telemetry)|federation)/'),
    only('plugins', '^plugins/', '^(core/contract|plugins)/'),
    only('sdk', '^sdk/(?!policy/|admin-grpc/)', '^(core/contract|sdk/(?!policy/|admin-grpc/))'),
    // For Node only: the client of the admin service is the command line's.
    only('sdk-admin-grpc', '^sdk/admin-grpc/', '^(core/(contract|control)/|sdk/(?!policy/))'),
    // For authors: what a node itself uses to ask a policy.
    only('sdk-policy', '^sdk/policy/', '^(core/contract/|plugins/(abi|kit)/|sdk/policy/)'),
    only('native', '^native/', '^(core/contract|native)/'),
    { name: 'product-does-not-import-test', severity: 'error', from: { pathNot: '^test/' }, to: { path: '^test/' } },
    { name: 'contract-needs-no-package', severity: 'error', from: { path: '^core/contract/' }, to: { path: 'node_modules' } },
  ],
  options: { tsConfig: { fileName: 'tsconfig.json' }, tsPreCompilationDeps: true, doNotFollow: { path: 'node_modules' }, exclude: { path: '(^|/)(dist|build|assembly)/' } },
}
