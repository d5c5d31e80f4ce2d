# The first copy, killed in the middle while rows change: what is done stays done, the rest is copied again, and all ends right.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep);

use PgTide::Mesh;
use PgTide::RowLoad;
use PgTide::Test qw(wait_until);

my $mesh = PgTide::Mesh->new(transport => $ENV{TIDE_TRANSPORT} // 'direct');
my $load = PgTide::RowLoad->new(mesh => $mesh, rate => 60);
my @MORE = map { "more_$_" } 1 .. 4;
my @TABLES = (@PgTide::RowLoad::TABLES, @MORE);

$mesh->sql_all("CREATE TABLE $_ (id int PRIMARY KEY, v text, n int DEFAULT 0)") for @MORE;
$mesh->add_table($_, 'load') for @MORE;
$mesh->sql('us', "INSERT INTO $_ SELECT n, repeat(md5(n::text), 3) FROM generate_series(1, 50000) n") for @MORE;
$load->start;

sub states
{
	return { map { split /\|/ } split /\n/, $mesh->sql('eu', 'SELECT table_name, state || \' \' || coalesce(finished_at::text, \'\') FROM tide.link_table') };
}

sub copied
{
	my ($states) = @_;
	return grep { $states->{$_} =~ /^copied/ } sort keys %$states;
}

# One table can't be copied for somebody holds it; the others can.
my $session = $mesh->node('eu')->background_psql('postgres');
$session->query_safe('BEGIN; LOCK TABLE more_3 IN SHARE MODE');
$mesh->link('eu', 'us', copy_workers => 3);
$mesh->start_relays;
ok(defined wait_until(sub { copied(states()) == @TABLES - 1 }, 90, 'the other tables'), 'all tables but one are copied');
my $row = $mesh->link_row('eu', 'us');
is($row->{state}, 'copying', 'tide.links says that it copies');
my $states = states();
like($states->{more_3}, qr/^(copying|wanted) /, '... and which table is not done');
like($mesh->relay('eu')->metric('pg_tide_link_tables_copied') // '', qr/^\d*$/, '... and so does /metrics');
$mesh->relay('eu')->kill9;
$mesh->sql('us', 'UPDATE more_3 SET n = n + 1 WHERE id % 100 = 0; DELETE FROM more_3 WHERE id % 100 = 1; INSERT INTO more_3 SELECT n, \'new\' FROM generate_series(60000, 60100) n');
$mesh->sql('us', 'UPDATE more_1 SET n = n + 1 WHERE id % 100 = 0; DELETE FROM more_1 WHERE id % 100 = 1; UPDATE more_1 SET id = -id WHERE id % 100 = 2');
$session->query_safe('COMMIT');
$session->quit;
$mesh->start_relay('eu');
ok(defined $mesh->wait_copied('eu', 'us', 90), 'after a kill the copy ends');
my $after = states();
is(join(' ', grep { $after->{$_} ne $states->{$_} } copied($states)), '', '... without doing again what was done');
$load->tend;
ok(defined $load->wait_arrivals('us', 'eu', 10), 'rows flow');
$load->stop;
$mesh->settle_one('us', 'eu');
ok($mesh->same_tables('equal, but for what eu wrote', \@MORE), 'the copied tables are right');

# From the beginning, killed again and again: the relay, its server, the origin.
$mesh->unlink('eu', 'us');
ok(defined $mesh->wait_value('eu', 'SELECT count(*) FROM tide.link', 0), 'the link is removed');
$mesh->sql('eu', "TRUNCATE $_") for @MORE;
$load->start;
$mesh->link('eu', 'us', copy_workers => 3);
my $kills = 0;
for (1 .. $ENV{TIDE_KILLS} // 20)
{
	sleep rand 0.7;
	my $what = rand;
	if ($what < 0.7)
	{
		$mesh->relay('eu')->kill9;
		$mesh->start_relay('eu', wait => 0);
	}
	else
	{
		my $node = $mesh->node($what < 0.85 ? 'eu' : 'us');
		$node->stop('immediate');
		$node->start;
		$load->tend;
	}
	$kills++;
	$mesh->sql('us', "UPDATE more_$_ SET n = n + 1 WHERE id % 500 = $kills; DELETE FROM more_$_ WHERE id % 500 = 100 + $kills; UPDATE more_$_ SET id = -id WHERE id % 500 = 200 + $kills")
	  for 1 .. 4;
}
ok(defined $mesh->wait_copied('eu', 'us', 120), "after $kills kills the copy ends");
$mesh->link('us', 'eu');
ok(defined $mesh->wait_copied('us', 'eu', 90), 'us takes rows from eu, too');
$load->stop;
$mesh->settle('every region has what the other committed', 120);
$mesh->same_tables("after $kills kills: every table is the same, byte for byte", \@TABLES);
$mesh->nothing_special('nothing was parked');
is($mesh->sql('us', q{SELECT count(*) FROM pg_replication_slots}), 1, 'one slot at us: temporary ones are gone');
is_deeply($mesh->stop, { us => 0, eu => 0 }, 'both relays end with status 0');
done_testing();
