# Bad days of links under load: a password rotated, rights taken away in the middle, an operator's mistakes, an origin whose
# extension is older. Each is said, named, and heals; every table is equal in the end, and no secret is seen.

use strict;
use warnings;

use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

use PgTide::Mesh;
use PgTide::RowLoad;
use PgTide::Test qw(wait_until);

my $mesh = PgTide::Mesh->new;
my $load = PgTide::RowLoad->new(mesh => $mesh, rate => 40);
my %REGION = %PgTide::Mesh::REGION;
my $PASSFILE = "$ENV{TIDE_DATA}/pgpass";
my @SECRETS = qw(first-secret-1f second-secret-2f);

sub write_passfile
{
	my ($secret) = @_;
	open my $out, '>', "$PASSFILE.new" or die "$PASSFILE: $!";
	print $out "*:*:*:relay:$secret\n";
	close $out;
	chmod 0600, "$PASSFILE.new";
	rename "$PASSFILE.new", $PASSFILE or die "$PASSFILE: $!";
	return;
}

# What is connected as the relay's role has to log in again.
sub disconnect
{
	my ($side) = @_;
	$mesh->sql($side, q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'relay'});
	return;
}

sub says
{
	my ($pattern, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok(defined $mesh->wait_value('eu', qq{SELECT coalesce(last_error, '') FROM tide.links WHERE state = 'error'}, $pattern, 60), "$name: the link says so");
}

sub flows
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(defined $mesh->wait_streaming('eu', 'us'), "$name: streams");
	ok(defined $load->wait_arrivals('us', 'eu', 20), '... and rows arrive');
	return;
}

sub rotate
{
	my ($secret, $first) = @_;
	my $role = "ALTER ROLE relay PASSWORD '$secret'";
	$first eq 'role' ? $mesh->sql('us', $role) : write_passfile($secret);
	disconnect('us');
	says(qr/password authentication failed/, "$first first");
	$first eq 'role' ? write_passfile($secret) : $mesh->sql('us', $role);
	flows('both');
	return;
}

# Who may log in to us as the relay's role needs its password; us has no relay of its own in this part.
sub test_rotation
{
	my $us = $mesh->node('us');
	my $hba = $us->data_dir . '/pg_hba.conf';
	my $open = slurp_file($hba);
	$mesh->relay('us')->stop;
	write_passfile($SECRETS[0]);
	$mesh->sql('us', "ALTER ROLE relay PASSWORD '$SECRETS[0]'");
	$mesh->sql('eu', sprintf q{SELECT tide.region_add('%s', '%s passfile=%s')}, $REGION{us}, $mesh->conninfo('us'), $PASSFILE);
	open my $out, '>', $hba or die "$hba: $!";
	print $out "local all relay scram-sha-256\n$open";
	close $out;
	$us->reload;
	disconnect('us');
	flows('with a password');
	rotate($SECRETS[1], 'role');
	rotate($SECRETS[0], 'file');
	my $seen = join "\n", $mesh->relay('eu')->log_text, $mesh->sql('eu', 'SELECT row_to_json(l) FROM tide.links l'),
	  $mesh->sql('eu', 'SELECT row_to_json(a) FROM tide.audit a'), ($mesh->relay('eu')->get('/metrics'))[1];
	is_deeply([ grep { index($seen, $_) >= 0 } @SECRETS ], [], 'no secret is seen');
	open $out, '>', $hba or die "$hba: $!";
	print $out $open;
	close $out;
	$us->reload;
	$mesh->start_relay('us');
	return;
}

# Rights that go while rows flow, at the origin and here.
sub test_rights
{
	$mesh->sql('us', 'REVOKE tide_relay FROM relay');
	says(qr/permission denied/, 'no member of tide_relay at the origin');
	$mesh->sql('us', 'GRANT tide_relay TO relay');
	flows('a member again');
	$mesh->sql('us', 'ALTER ROLE relay NOLOGIN');
	disconnect('us');
	says(qr/not permitted to log in/, 'a role that may not log in');
	$mesh->sql('us', 'ALTER ROLE relay LOGIN');
	flows('it may again');
	$mesh->sql('eu', 'REVOKE INSERT ON items FROM tide_relay');
	ok(defined $mesh->wait_value('eu', q{SELECT count(*) > 0 FROM tide.pending_changes WHERE code = 'TD015'}, 't', 60),
		'no right to insert here: that table waits');
	ok(defined $load->wait_arrivals('us', 'eu', 20), '... the others do not');
	$mesh->sql('eu', 'GRANT INSERT ON items TO tide_relay');
	wait_until(
		sub {
			$mesh->sql('eu', 'SELECT count(tide.pending_retry(id)) FROM (SELECT min(id) AS id FROM tide.pending_changes HAVING count(*) > 0) w');
			$mesh->sql('eu', 'SELECT count(*) FROM tide.pending_changes') eq '0';
		},
		60,
		'nothing is waiting');
	return;
}

# What an operator can do wrong is seen, and can be taken back.
sub test_mistakes
{
	$mesh->sql('eu', "SELECT tide.link_remove('$REGION{us}')");
	ok(defined $mesh->wait_value('eu', 'SELECT count(*) FROM tide.links', 0), 'a link removed by mistake is gone');
	$mesh->link('eu', 'us');
	flows('added again');
	$mesh->sql('eu', q{SELECT tide.table_remove('pgbench_accounts')});
	ok(defined $load->wait_arrivals('us', 'eu', 20), 'a table taken off by mistake: the others flow');
	$mesh->add_table_at('eu', 'pgbench_accounts', 'load');
	ok(defined $mesh->wait_copied('eu', 'us'), '... added again, it is copied');
	my $since = $mesh->sql('eu', q{SELECT published_since FROM tide.replicated_table WHERE relid = 'pgbench_accounts'::regclass});
	ok(defined $mesh->wait_value('us', qq{SELECT coalesce(copied_lsn >= '$since', false) FROM tide.link_table WHERE table_name = 'pgbench_accounts'}, 't', 60),
		'... and there, too: it lacks what was written here meanwhile');
	flows('again');
	my $slot = $mesh->sql('eu', 'SELECT slot FROM tide.links');
	$mesh->sql('us', "SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots WHERE slot_name = '$slot'");
	my $dropped = wait_until(
		sub { $mesh->error_of('us', "SELECT pg_drop_replication_slot('$slot')") !~ /is active/ }, 20, 'the slot dropped');
	ok(defined $dropped, 'a slot dropped by mistake');
	ok(defined $mesh->wait_value('eu', q{SELECT last_resync FROM tide.links WHERE phase = 'streaming'}, qr/\Q$slot\E/, 90), '... is named, and the rows are copied again');
	flows('copied again');
	like($mesh->sql('eu', q{SELECT string_agg(action || ' ' || object, ', ' ORDER BY id) FROM tide.audit WHERE object ~ '^(link|table)' AND role = session_user}),
		qr/drop table \S*pgbench_accounts, create table \S*pgbench_accounts/, 'the audit says who did that');
	like($mesh->sql('eu', q{SELECT string_agg(action || ' ' || object || ' ' || role, ', ' ORDER BY id) FROM tide.audit WHERE object = 'link us-east'}),
		qr/drop link us-east relay, create link us-east/, '... and that the relay finished the removal');
	return;
}

# A stand-in for an origin with an older extension: it lacks functions that only tell more.
sub test_older_origin
{
	$mesh->relay('us')->stop; # which would lack them, too
	$mesh->sql('us', 'ALTER FUNCTION tide.rows_classes() RENAME TO rows_classes_later');
	my $epoch = $mesh->sql('eu', q{SELECT epoch FROM tide.pipeline WHERE name LIKE 'link:%'});
	$mesh->relay('eu')->stop;
	$mesh->start_relay('eu');
	flows('without what it can not tell');
	ok(defined $load->wait_arrivals('us', 'eu', 200), '... for longer than the question waits');
	is($mesh->sql('eu', q{SELECT epoch FROM tide.pipeline WHERE name LIKE 'link:%'}), $epoch + 1, '... without beginning again');
	$mesh->sql('us', 'ALTER FUNCTION tide.rows_classes_later() RENAME TO rows_classes');
	$mesh->start_relay('us');
	return;
}

$mesh->link_all;
$mesh->start_relays;
ok(defined $mesh->wait_copied(@$_), "$_->[0] takes rows from $_->[1]") for $mesh->ways;
$load->start;
test_rotation();
test_rights();
test_mistakes();
test_older_origin();
$load->stop;
$mesh->settle;
$mesh->same_tables('every table is equal in the end', \@PgTide::RowLoad::TABLES);
is($mesh->sql($_, 'SELECT count(*) FROM tide.pending_changes'), 0, "nothing is parked in $_") for $mesh->sides;
$mesh->stop;
done_testing();
