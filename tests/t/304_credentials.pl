# Every way to log in, right and wrong: what works, how a failure is told, that it stays one pipeline's,
# and that no secret is seen anywhere.

use strict;
use warnings;

use Test::More;

use PgTide::Duo;
use PgTide::Keys;
use PgTide::Nats;
use PgTide::Test qw(wait_until);

my $keys = PgTide::Keys->new;
my $user = $keys->nkey('user');
my $stranger = $keys->nkey('user');
my %secret = (
	password => 'hunter2-Pa55word',
	token    => 'hunter2-T0ken',
	database => 'hunter2-Dat4base',
	wrong    => 'hunter2-Wr0ng');
my %port = (plain => 4222, token => 4223, tls => 4224, jwt => 4225, client => 4226);
my @pipelines;    # names of those that must work

$keys->authority('ca');
$keys->authority('other-ca');
my ($nats_cert, $nats_key) = $keys->certificate('ca', 'nats', 'IP:127.0.0.1', 'DNS:nats-us');
my ($pg_cert, $pg_key) = $keys->certificate('ca', 'pg', 'IP:127.0.0.1');
my ($client_cert, $client_key) = $keys->certificate('ca', 'client', 'DNS:relay');
my $ca = "$keys->{dir}/ca.pem";
my $other_ca = "$keys->{dir}/other-ca.pem";

my $duo = PgTide::Duo->new(
	nats => 0,
	conf => "listen_addresses = '127.0.0.1'\nssl = on\nssl_cert_file = '$pg_cert'\nssl_key_file = '$pg_key'\n"
	  . "log_statement = all\nlog_connections = on\n");

sub server
{
	my ($name, $config) = @_;
	my $log_only = { name => "auth-$name", url => "nats://127.0.0.1:$port{$name}" };
	PgTide::Nats->new(%$log_only, config => <<~"END")->start;
		server_name: "auth-$name"
		listen: "127.0.0.1:$port{$name}"
		jetstream { store_dir: "data" }
		$config
		END
	return;
}

# Operator, account and user, each a signed token; returns the server's configuration and the user's token.
sub jwt_setup
{
	my ($operator, $account, $system) = map { $keys->nkey($_) } qw(operator account account);
	my $system_jwt = $keys->token($operator, $system, 'account', { limits => { subs => -1, conn => -1 } });
	my $operator_jwt = $keys->token($operator, $operator, 'operator');
	my $account_jwt = $keys->token($operator, $account, 'account', {
			limits => { subs => -1, conn => -1, leaf => -1, imports => -1, exports => -1, data => -1, payload => -1,
				wildcards => \1, mem_storage => -1, disk_storage => -1, streams => -1, consumer => -1 },
			default_permissions => { pub => {}, sub => {} } });
	my $user_jwt = $keys->token($account, $user, 'user', { pub => {}, sub => {}, subs => -1, data => -1, payload => -1 });
	return (<<~"END", $user_jwt);
		operator: $operator_jwt
		resolver: MEMORY
		system_account: $system->{public}
		resolver_preload: { $account->{public}: $account_jwt, $system->{public}: $system_jwt }
		END
}

sub start_servers
{
	server('plain', qq(authorization { users: [ { user: "joe", password: "$secret{password}" }, { nkey: "$user->{public}" } ] }));
	server('token', qq(authorization { token: "$secret{token}" }));
	server('tls', qq(tls { cert_file: "$nats_cert", key_file: "$nats_key" }));
	server('client', qq(tls { cert_file: "$nats_cert", key_file: "$nats_key", ca_file: "$ca", verify: true }));
	my ($config, $jwt) = jwt_setup();
	server('jwt', $config);
	return $jwt;
}

sub nats_pipeline
{
	my ($name, $where, %config) = @_;
	(my $stream = uc $name) =~ tr/A-Z0-9/_/c;
	$duo->outbox_to_nats('us', $name, 'auth', url => "nats://127.0.0.1:$port{$where}", stream => $stream,
		subject_template => "auth.$name", %config);
	return;
}

sub direct_pipeline
{
	my ($name, $conninfo) = @_;
	$duo->sql('us', sprintf 'SELECT tide.relay_set_outbox(%s, %s, %s)', PgTide::Duo::literal($name), "'auth'",
		PgTide::Duo::jsonb({ sink_type => 'inbox', inbox => 'auth', conninfo => $conninfo }));
	return;
}

sub tcp
{
	my (%args) = @_;
	return $duo->conninfo('eu', host => '127.0.0.1', user => 'guarded', sslmode => 'verify-full', sslrootcert => $ca, %args);
}

sub good_pipelines
{
	my ($jwt) = @_;
	my %good = (
		'password-env'  => [ 'plain', user => 'joe', password => 'env:TIDE_PASSWORD' ],
		'password-file' => [ 'plain', user => 'joe', password => 'file:' . $keys->file('password', "$secret{password}\n") ],
		'nkey-env'      => [ 'plain', nkey_seed => 'env:TIDE_SEED' ],
		'nkey-file'     => [ 'plain', nkey_seed => 'file:' . $keys->file('seed', "$user->{seed}\n") ],
		'token-env'     => [ 'token', token => 'env:TIDE_TOKEN' ],
		'token-file'    => [ 'token', token => 'file:' . $keys->file('token', $secret{token}) ],
		'credentials'   => [ 'jwt', credentials_file => $keys->credentials('user.creds', $jwt, $user->{seed}) ],
		'tls'           => [ 'tls', tls_ca_file => $ca ],
		'tls-url'       => [ 'tls', url => "tls://127.0.0.1:$port{tls}", tls_ca_file => $ca ],
		'tls-name'      => [ 'tls', tls_ca_file => $ca, tls_server_name => 'nats-us' ],
		'tls-client'    => [ 'client', tls_ca_file => $ca, tls_cert_file => $client_cert, tls_key_file => $client_key ]);
	nats_pipeline($_, @{ $good{$_} }) for sort keys %good;
	my $passfile = $keys->file('passfile', "127.0.0.1:*:eu:guarded:$secret{database}\n");
	direct_pipeline('direct-passfile', tcp(passfile => $passfile));
	direct_pipeline('direct-file', 'file:' . $keys->file('conninfo', tcp(password => $secret{database})));
	direct_pipeline('direct-env', 'env:TIDE_CONNINFO');
	@pipelines = (sort(keys %good), 'direct-passfile', 'direct-file', 'direct-env');
	return;
}

# Name => [pattern of the error, server, settings ...]
sub bad_pipelines
{
	my ($jwt) = @_;
	my %bad = (
		'wrong-password' => [ qr/auth|credential/i, 'plain', user => 'joe', password => 'env:TIDE_WRONG' ],
		'wrong-user'     => [ qr/auth|credential/i, 'plain', user => 'jim', password => 'env:TIDE_PASSWORD' ],
		'no-login'       => [ qr/auth|credential/i, 'plain' ],
		'wrong-token'    => [ qr/auth|credential/i, 'token', token => 'env:TIDE_WRONG' ],
		'wrong-nkey'     => [ qr/auth|credential/i, 'plain', nkey_seed => 'file:' . $keys->file('other-seed', $stranger->{seed}) ],
		'no-nkey'        => [ qr/nkey_seed/, 'plain', nkey_seed => 'env:TIDE_WRONG' ],
		'wrong-creds'    => [ qr/auth|credential/i, 'jwt',
			credentials_file => $keys->credentials('other.creds', $jwt, $stranger->{seed}) ],
		'no-creds'       => [ qr/credentials_file|credentials|seed/i, 'jwt', credentials_file => $keys->file('no.creds', "nothing\n") ],
		'absent-creds'   => [ qr{/nowhere/user\.creds|credential}i, 'jwt', credentials_file => '/nowhere/user.creds' ],
		'unset-env'      => [ qr/TIDE_UNSET is not set/, 'plain', user => 'joe', password => 'env:TIDE_UNSET' ],
		'absent-file'    => [ qr{could not open /nowhere/secret}, 'token', token => 'file:/nowhere/secret' ],
		'open-file'      => [ qr/others may read/, 'token', token => 'file:' . $keys->file('open', $secret{token}, 0644) ],
		'wrong-ca'       => [ qr/certificate|SSL|TLS/i, 'tls', tls_ca_file => $other_ca ],
		'wrong-name'     => [ qr/certificate|SSL|TLS|host/i, 'tls', tls_ca_file => $ca, tls_server_name => 'nats-eu' ],
		'system-ca'      => [ qr/certificate|SSL|TLS/i, 'tls', tls => \1 ],
		'not-tls'        => [ qr/secure|TLS|SSL/i, 'tls' ],
		'only-tls'       => [ qr/secure|TLS|SSL/i, 'token', token => 'env:TIDE_TOKEN', tls => \1 ],
		'no-client-cert' => [ qr/certificate|SSL|TLS|Protocol Error/i, 'client', tls_ca_file => $ca ]);
	my %pattern;
	for my $name (sort keys %bad)
	{
		($pattern{$name}, my @rest) = @{ $bad{$name} };
		nats_pipeline($name, @rest);
	}
	direct_pipeline('direct-wrong', 'file:' . $keys->file('wrong-conninfo', tcp(password => $secret{wrong})));
	$pattern{'direct-wrong'} = qr/password authentication failed/;
	direct_pipeline('direct-none', tcp());
	$pattern{'direct-none'} = qr/no password supplied|password authentication/;
	direct_pipeline('direct-wrong-ca', tcp(sslrootcert => $other_ca));
	$pattern{'direct-wrong-ca'} = qr/certificate verify failed/;
	direct_pipeline('direct-wrong-name', tcp(host => 'localhost'));
	$pattern{'direct-wrong-name'} = qr/does not match host name|localhost/;
	direct_pipeline('direct-broken', 'file:' . $keys->file('broken', "host=h password='$secret{wrong}"));
	$pattern{'direct-broken'} = qr/connection string|conninfo/;
	return \%pattern;
}

# {pipeline => events delivered}
sub delivered
{
	my $metrics = $duo->relay('us')->metrics;
	return { map { /^pg_tide_events_delivered_total\{pipeline="([^"]+)"/ ? ($1 => $metrics->{$_}) : () } keys %$metrics };
}

sub publish
{
	return $duo->sql('us', q{SELECT tide.outbox_publish('auth', 'e', '{}')});
}

# {pipeline => {state, last_error}}
sub states
{
	return { map { $_->{name} => $_ } @{ $duo->rows('us', 'SELECT name, state, last_error FROM tide.pipelines') } };
}

sub test_good
{
	publish();
	my $delivered = {};
	my @nats = grep { !/^direct/ } @pipelines;
	wait_until(sub { $delivered = delivered(); !grep { ($delivered->{$_} // 0) != 1 } @nats }, 30, 'all of them');
	my $states = states();
	is($delivered->{$_}, 1, "$_: logged in, and an event went through") or diag($states->{$_}{last_error}) for @nats;
	for my $name (grep { /^direct/ } @pipelines)
	{
		ok(defined $duo->wait_state('us', $name, 'running'), "$name: logged in");
	}
	ok(defined $duo->wait_count('eu', 'auth', 1), '... and the event is there, once');
	is($duo->sql('eu', q{SELECT bool_and(s.ssl) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.usename = 'guarded'}),
		't', '... over TLS');
	return;
}

# The client's side of TLS 1.3 is done before the server has looked for a certificate: to us it just hangs up.
my %retried = ('no-client-cert' => 1);

sub test_bad
{
	my ($pattern) = @_;
	my %failed;    # state "failed" comes and goes with every attempt
	my $states;
	wait_until(
		sub {
			$states = states();
			$failed{$_}++ for grep { $states->{$_}{state} eq ($retried{$_} ? 'retrying' : 'failed') } keys %$pattern;
			return !grep { !$failed{$_} } keys %$pattern;
		},
		30,
		'all of them to fail');
	for my $name (sort keys %$pattern)
	{
		like($states->{$name}{last_error}, $pattern->{$name}, "$name: the error says why");
		ok($failed{$name}, '... and the state that it can\'t go on by itself') or diag($states->{$name}{state});
	}
	publish();
	ok(defined wait_until(sub { my $n = delivered(); !grep { $n->{$_} < 2 } grep { !/^direct/ } @pipelines }, 30,
			'the others'), 'the others go on');
	my $delivered = delivered();
	is($delivered->{$_}, 0, "$_: nothing went through") for sort keys %$pattern;
	like($duo->relay('us')->log_text, qr/pipeline=no-client-cert .*hint=".*tls_cert_file/, 'the hint names the client certificate');
	return;
}

# A login that was put right works without a restart.
sub test_cured
{
	my ($file) = "$keys->{dir}/other-seed";
	$keys->file('other-seed', $user->{seed});
	ok(defined $duo->wait_state('us', 'wrong-nkey', 'running', 30), 'a seed that was put right in its file works by itself');
	nats_pipeline('wrong-password', 'plain', user => 'joe', password => 'env:TIDE_PASSWORD');
	ok(defined $duo->wait_state('us', 'wrong-password', 'running', 5), 'a corrected configuration works at once');
	return;
}

# Everything that anybody could read.
sub test_no_secrets
{
	my %seen = (
		'the relay\'s log'      => $duo->relay('us')->log_text,
		'tide.pipelines'        => $duo->sql('us', 'SELECT * FROM tide.pipelines'),
		'the catalogs'          => $duo->sql('us', 'SELECT * FROM tide.pipeline'),
		'pg_stat_activity'      => $duo->sql('us', 'SELECT * FROM pg_stat_activity'),
		'the PostgreSQL log'    => PostgreSQL::Test::Utils::slurp_file($duo->node->logfile),
		'/metrics'              => ($duo->relay('us')->get('/metrics'))[1],
		'/readyz'               => ($duo->relay('us')->get('/readyz'))[1],
		'the command line'      => PostgreSQL::Test::Utils::slurp_file('/proc/' . $duo->relay('us')->pid . '/cmdline'),
		'status'                => scalar `$ENV{TIDE_TOP}/build/pg_tide status -d "${\$duo->conninfo('us')}" --json 2>&1`,
		'doctor'                => scalar `$ENV{TIDE_TOP}/build/pg_tide doctor -d "${\$duo->conninfo('us')}" 2>&1`);
	for my $place (sort keys %seen)
	{
		cmp_ok(length $seen{$place}, '>', 0, "$place is there");
		unlike($seen{$place}, qr/hunter2|\Q$user->{seed}\E|\Q$stranger->{seed}\E/, '... without secrets');
	}
	return;
}

$duo->sql('us', q{SELECT tide.outbox_create('auth')});
$duo->sql('eu', q{SELECT tide.inbox_create('auth')});
$duo->sql('eu', "SET log_statement = none; CREATE ROLE guarded LOGIN PASSWORD '$secret{database}' IN ROLE tide_relay");
my $hba = $duo->node->data_dir . '/pg_hba.conf';
my $rules = PostgreSQL::Test::Utils::slurp_file($hba);
PostgreSQL::Test::Utils::append_to_file("$hba.new",
	"hostssl all guarded 127.0.0.1/32 scram-sha-256\nhost all guarded 127.0.0.1/32 reject\n$rules");
rename "$hba.new", $hba or die "$hba: $!";
$duo->node->reload;

my $jwt = start_servers();
good_pipelines($jwt);
$duo->start_relay('us', wait => 0, env => {
		TIDE_PASSWORD => $secret{password},
		TIDE_TOKEN    => $secret{token},
		TIDE_SEED     => $user->{seed},
		TIDE_WRONG    => $secret{wrong},
		TIDE_CONNINFO => tcp(password => $secret{database}) });
test_good();
test_bad(bad_pipelines($jwt));
test_cured();
test_no_secrets();
is_deeply($duo->stop_relays, { us => 0 }, 'the relay ends with status 0');
done_testing();
