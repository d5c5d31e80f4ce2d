# The relay program's shell: command line, exit status, status, doctor, HTTP, signals, systemd.
# What pipelines do is not looked at here, only that they are shown.

use strict;
use warnings;

use IO::Socket::UNIX;
use IPC::Run ();
use JSON::PP qw(decode_json);
use Socket qw(SOCK_DGRAM);
use Test::More;

use PgTide::Region;
use PgTide::Relay;
use PgTide::Test qw(wait_until);

my $program = "$ENV{TIDE_TOP}/build/pg_tide";
my $us;

# Exit status, standard output and standard error.
sub run_program
{
	my (@args) = @_;
	IPC::Run::run([ $program, @args ], '<', \undef, '>', \my $out, '2>', \my $err);
	return ($? >> 8, $out, $err);
}

# The doctor's findings as {level => ["check subject", ...]}, and its exit status.
sub doctor
{
	my ($conninfo) = @_;
	my ($status, $out) = run_program('doctor', '-d', $conninfo, '--json');
	my $document = decode_json($out);
	my %found;
	push @{ $found{ $_->{level} } }, join ' ', $_->{check}, $_->{subject} // ()
	  for @{ $document->{findings} };
	is($document->{ok} ? 0 : 1, $status, 'the exit status is what the document says');
	return (\%found, $status);
}

sub test_command_line
{
	my ($status, $out, $err) = run_program();
	is($status, 2, 'without a command: usage');
	like($err, qr/commands:.*relay.*status.*doctor/s, '... and the list of commands');
	for my $wrong ([ 'nosuch' ], [ 'relay', '--bogus' ], [ 'status', '-d' ], [ 'status', 'extra' ],
		[ 'relay', '--drain-timeout', 'x' ], [ 'relay', '--log-level', 'loud' ])
	{
		($status, $out, $err) = run_program(@$wrong);
		is($status, 2, "'@$wrong' is refused");
		like($err, qr/^pg_tide: .*\nhint: /, '... with a hint');
		is($out, '', '... on standard error');
	}
	for my $command (qw(relay status doctor version help))
	{
		($status, $out) = run_program($command, '--help');
		is($status, 0, "$command --help");
		like($out, qr/^usage: pg_tide $command \[OPTIONS\]/m, '... shows its usage');
	}
	($status, $out) = run_program('help', 'exit-codes');
	like($out, qr/^ +3 +CONFIG /m, 'exit codes are explained');
	($status, $out) = run_program('--version');
	like($out, qr/^pg_tide \d+\.\d+\.\d+ /, '--version');
	return;
}

# Nobody's password may appear anywhere, whatever goes wrong.
sub test_connecting
{
	my $base = 'host=' . $us->host . ' port=' . $us->port;
	$us->safe_psql('postgres', "CREATE ROLE guarded LOGIN PASSWORD 'open sesame'");
	$us->safe_psql('postgres', 'CREATE ROLE outsider LOGIN');
	$us->safe_psql('postgres', 'CREATE DATABASE bare');
	my $hba = $us->data_dir . '/pg_hba.conf';
	my $rules = PostgreSQL::Test::Utils::slurp_file($hba);
	PostgreSQL::Test::Utils::append_to_file("$hba.new", "local all guarded scram-sha-256\n$rules");
	rename "$hba.new", $hba or die "$hba: $!";
	$us->reload;

	for my $case (
		[ "$base user=guarded password='hunter2' dbname=postgres", 5, qr/28P01/ ],
		[ "$base user=guarded password='hunter2 dbname=postgres", 3, qr/connection string/ ],
		[ "postgresql://guarded:hunter2\@[::1/postgres", 3, qr/connection string/ ],
		[ "$base user=relay dbname=hunter3", 3, qr/"hunter3" does not exist/ ],
		[ "$base user=relay dbname=bare", 3, qr/CREATE EXTENSION pg_tide/ ],
		[ "$base user=outsider dbname=postgres", 6, qr/grant the role tide_relay/ ],
		[ 'host=127.0.0.1 port=1', 4, qr/127\.0\.0\.1/ ])
	{
		my ($conninfo, $wanted, $pattern) = @$case;
		my ($status, $out, $err) = run_program('status', '-d', $conninfo);
		is($status, $wanted, "status $wanted for: $conninfo");
		like($err, $pattern, '... and why');
		unlike("$out$err", qr/hunter2/, '... without the password');
		(my $found, $status) = doctor($conninfo);
		is($status, 1, '... and the doctor sees it, too');
		ok(@{ $found->{error} }, '... as an error');
	}
	return;
}

sub test_status
{
	my ($status, $out) = run_program('status', '-d', $us->relay_conninfo);
	is($status, 0, 'status');
	like($out, qr/^region +us-east$/m, '... names the region');
	like($out, qr/^wake-up +at commit$/m, '... and how relays wake up');
	like($out, qr/^PIPELINE .*\n.*^direct +outbox +orders +waiting /ms, '... lists pipelines');
	like($out, qr/^OUTBOX .*\n.*^orders /ms, '... and outboxes');
	like($out, qr/^INBOX .*\n.*^arrivals +0 /ms, '... and inboxes');
	cmp_ok((sort { $b <=> $a } map { length } split /\n/, $out)[0], '<=', 120, '... in 120 columns');

	($status, $out) = run_program('status', '--json', '-d', $us->relay_conninfo);
	my $document = decode_json($out);
	is($document->{region}, 'us-east', 'status --json');
	is($document->{pipelines}[0]{name}, 'direct', '... has the pipelines');
	is($document->{inboxes}[0]{pending}, 0, '... and the inboxes');
	is($document->{dead_letters}, 0, '... and the number of dead letters');
	return;
}

sub make_pipeline
{
	my $other = 'host=' . $us->host . ' port=' . $us->port . ' user=relay dbname=other';
	$us->safe_psql('postgres', 'CREATE DATABASE other');
	$us->safe_psql('other', 'CREATE EXTENSION pg_tide');
	$us->safe_psql('other', "SELECT tide.region_init('eu-west'), tide.inbox_create('landing')");
	$us->safe_psql('postgres', "SELECT tide.outbox_create('orders'), tide.inbox_create('arrivals')");
	$us->safe_psql('postgres',
		qq(SELECT tide.relay_set_outbox('direct', 'orders', '{"sink_type": "inbox", "conninfo": "$other", "inbox": "landing"}')));
	return;
}

sub test_doctor_finds
{
	my ($found, $status) = doctor($us->relay_conninfo);
	is_deeply($found->{error}, ['pipeline.owner direct'], 'a pipeline without a relay is an error');
	is($status, 1, '... and shows in the exit status');

	$us->safe_psql('postgres', "SELECT tide.relay_disable('direct')");
	($found, $status) = doctor($us->relay_conninfo);
	is_deeply($found->{error}, undef, 'a disabled one needs no relay');
	is_deeply($found->{warn}, ['pipeline.enabled direct'], '... but keeps its outbox from being emptied');
	is($status, 1, '... which counts');
	$us->safe_psql('postgres', "SELECT tide.relay_enable('direct')");

	$us->safe_psql('other', "SELECT tide.inbox_drop('landing')");
	($found) = doctor($us->relay_conninfo);
	is_deeply($found->{error}, [ 'pipeline.owner direct', 'connector direct' ],
		'a destination that is not there is found');
	$us->safe_psql('other', "SELECT tide.inbox_create('landing')");

	$us->safe_psql('postgres', 'ALTER ROLE relay SET synchronous_commit = off');
	($found) = doctor($us->relay_conninfo);
	is_deeply($found->{warn}, ['durability'], 'synchronous_commit = off is found');
	$us->safe_psql('postgres', 'ALTER ROLE relay RESET synchronous_commit');
	return;
}

# What systemd was told since the last call.
sub told
{
	my ($socket) = @_;
	my $all = '';
	while (defined $socket->recv(my $message, 4096, Socket::MSG_DONTWAIT()))
	{
		$all .= "$message\n";
	}
	return $all;
}

sub test_relay
{
	my $path = "$ENV{TIDE_DATA}/notify";
	my $socket = IO::Socket::UNIX->new(Local => $path, Type => SOCK_DGRAM) or die "$path: $!";
	my $relay = PgTide::Relay->new(
		name   => 'shell',
		region => $us,
		env    => { NOTIFY_SOCKET => $path, WATCHDOG_USEC => 400_000 },
		args   => [ '--name', 'first' ]);
	$relay->start;
	my $heard = '';
	ok(defined wait_until(sub { $heard .= told($socket); $heard =~ /WATCHDOG=1.*WATCHDOG=1/s }, 10,
			'the watchdog'), 'systemd hears READY=1 and then the watchdog');
	like($heard, qr/\A.*READY=1/, '... READY=1 first');

	cmp_ok(($relay->get($_))[0], '==', 200, "GET $_") for '/', '/livez', '/readyz', '/metrics';
	cmp_ok(($relay->get('/nosuch'))[0], '==', 404, 'GET /nosuch');
	ok(eval { decode_json(($relay->get('/readyz'))[1]) }, '/readyz is JSON');

	$us->safe_psql('postgres', "SELECT tide.outbox_publish('orders', 'order', '{\"n\": 1}')");
	ok(defined wait_until(
			sub { $us->safe_psql('other', 'SELECT count(*) FROM tide.landing_inbox') == 1 }, 20, 'the event'),
		'an event arrives');
	ok(defined wait_until(
			sub { ($relay->metric('pg_tide_events_delivered_total', qr/pipeline="direct"/) // 0) == 1 }, 10,
			'the counter'), '... and is counted');
	is($relay->metric('pg_tide_pipeline_state', qr/direct.*running/), 1, '... by a running pipeline');
	is($relay->metric('pg_tide_commit_to_delivered_seconds_count', qr/direct/), 1, '... with its latency');

	my ($found, $status) = doctor($us->relay_conninfo);
	is($status, 0, 'the doctor has nothing to say now') or diag(explain($found));
	my (undef, $out) = run_program('status', '-d', $us->relay_conninfo);
	like($out, qr/^direct +outbox +orders +running +\S+ +first$/m, 'status shows the relay by its name');

	$relay->signal('HUP');
	ok(defined wait_until(sub { $relay->log_text =~ /SIGHUP/ }, 5, 'SIGHUP'), 'SIGHUP is taken');
	told($socket);    # a socket holds few messages: what came so far must not crowd out the last
	is($relay->stop, 0, 'SIGTERM drains and exits with 0');
	like(told($socket), qr/STOPPING=1/, '... and systemd is told');
	unlike($relay->log_text, qr/level=(warn|error)/, 'nothing was logged that should worry anybody');
	unlink $path;
	return;
}

# A relay may be started before its database is ready for it: it says what is missing, and waits.
sub test_early_relay
{
	my $conninfo = 'host=' . $us->host . ' port=' . $us->port . ' user=relay dbname=bare';
	my $relay = PgTide::Relay->new(name => 'early', conninfo => $conninfo);
	$relay->start(wait => 0);
	ok(defined wait_until(sub { $relay->log_text =~ /CREATE EXTENSION pg_tide/ }, 10, 'the hint'),
		'a relay without the extension says what to do');
	cmp_ok(($relay->get('/livez'))[0], '==', 200, '... is alive');
	cmp_ok(($relay->get('/readyz'))[0], '==', 503, '... but not ready');
	$us->safe_psql('bare', 'CREATE EXTENSION pg_tide');
	ok(defined wait_until(sub { ($relay->get('/readyz'))[0] == 200 }, 20, 'readiness'),
		'... until the extension is there');
	is($relay->stop, 0, '... and ends well');

	my ($status, undef, $err) = run_program('relay', '-d', $conninfo, '--http', '127.0.0.1');
	is($status, 3, 'an address that is none ends it at once');
	like($err, qr/ADDR:PORT/, '... with a hint');
	for my $wrong ("host=h password='hunter2", 'postgresql://joe:hunter2@[::1/d', 'host=h no_such_thing=1')
	{
		($status, undef, $err) = run_program('relay', '-d', $wrong);
		is($status, 3, 'so does a connection string that is none');
		like($err, qr/connection string/, '... and says so');
		unlike($err, qr/hunter2/, '... without the password');
	}
	return;
}

test_command_line();
$us = PgTide::Region->make('us', region => 'us-east');

local $ENV{TIDE_TEST_CONNINFO} = $us->connstr('postgres');
is(system("$ENV{TIDE_TOP}/build/relay/unit/relay_pg_server >$ENV{TIDE_DATA}/relay_pg_server.log 2>&1"), 0,
	'libpq wrapper against this server (relay_pg_server.log)');
test_connecting();
make_pipeline();
test_status();
test_doctor_finds();
test_relay();
test_early_relay();
$us->stop;
done_testing();
