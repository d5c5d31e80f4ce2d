# Lag that is true: small when nothing happens, growing when nothing comes, back when it does; and the objective's share.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time);

use PgTide::Mesh;
use PgTide::Test qw(wait_until);

my $mesh = PgTide::Mesh->new(transport => $ENV{TIDE_TRANSPORT} // 'direct');

$mesh->sql_all('CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)');
$mesh->class('fast', slo => '2 seconds');
$mesh->class('slow', slo => '1 minute');
$mesh->add_table('a', 'fast');
$mesh->add_table('b', 'slow');
$mesh->link_all;
is($mesh->sql('eu', q{SELECT count(*) FROM tide.lag WHERE seconds < 1000000}), 0, 'before anything came nobody claims to know the lag');
$mesh->start_relays;
ok(defined $mesh->wait_copied(@$_), "$_->[0] takes rows from $_->[1]") for $mesh->ways;

my $LAG = q{SELECT seconds FROM tide.lag WHERE region = 'us-east' AND class = 'fast'};

sub lag_below
{
	my ($side, $seconds, $limit) = @_;
	my $region = $PgTide::Mesh::REGION{ ($mesh->others($side))[0] };
	return $mesh->wait_value($side, "SELECT count(*), coalesce(bool_and(seconds < $seconds), false) FROM tide.lag WHERE region = '$region'",
		'2|t', $limit);
}

ok(defined lag_below($_, 3), "$_: one row a class, and the lag is small") for $mesh->sides;
my $beat = $mesh->sql('eu', 'SELECT heartbeat_at FROM tide.link_progress');
ok(defined $mesh->wait_value('eu', "SELECT heartbeat_at >= '$beat'::timestamptz + interval '3 seconds' FROM tide.link_progress", 't'),
	'heartbeats come although nobody writes');
ok(defined lag_below('eu', 3), '... and the lag stays small');
ok(defined $mesh->wait_value('eu', q{SELECT bytes < 100000 FROM tide.lag WHERE class = 'fast'}, 't'), '... in bytes, too');

# The destination's relay away: the lag grows with the clock.
sub grows
{
	my ($what) = @_;
	ok(defined $mesh->wait_value('eu', "SELECT seconds > 3 FROM tide.lag WHERE class = 'fast'", 't'), "$what: the lag grows");
	my ($then, $lag) = (time, $mesh->sql('eu', $LAG));
	ok(defined $mesh->wait_value('eu', "SELECT seconds > $lag + 2 FROM tide.lag WHERE class = 'fast'", 't'), '... and on');
	my ($passed, $more) = (time - $then, $mesh->sql('eu', $LAG) - $lag);
	ok(abs($passed - $more) < 2, sprintf '... as fast as time passes (%.1f s in %.1f s)', $more, $passed);
	return;
}

$mesh->relay('eu')->stop;
grows('its relay is stopped');
$mesh->start_relay('eu');
ok(defined lag_below('eu', 3), 'small again when it is back');

$mesh->relay('eu')->freeze;
grows('its relay is frozen');
$mesh->relay('eu')->thaw;
ok(defined lag_below('eu', 3, 60), 'small again when it goes on');

$mesh->node('us')->stop('immediate');
grows('the origin is down');
$mesh->node('us')->start;
ok(defined lag_below('eu', 3, 60), 'small again when it is up');

# Heartbeats come but rows wait for a lock: that is lag, too.
my $session = $mesh->node('eu')->background_psql('postgres');
$session->query_safe('BEGIN; LOCK TABLE a IN SHARE MODE');
$mesh->sql('us', 'INSERT INTO a VALUES (1)');
grows('a table is locked here');
$session->quit;
ok(defined lag_below('eu', 3, 60), 'small again when it is free');
is($mesh->sql('eu', 'SELECT count(*) FROM a'), 1, '... and the row is here');

# Objectives.
my $slo = $mesh->rows('eu', 'SELECT * FROM tide.slo ORDER BY class');
note explain $slo;
my %share = map { $_->{class} => $_ } @$slo;
cmp_ok($share{fast}{met_share}, '<', 1, 'tide.slo: the class with a hard objective has not always met it');
is($share{slow}{met_share} + 0, 1, '... the other one has');
ok(defined $share{$_}{p50} && defined $share{$_}{p99}, "... $_ has a median and p99") for qw(fast slow);

# What Prometheus sees.
my $lag = wait_until(
	sub {
		my $metrics = $mesh->relay('eu')->metrics;
		my @lag = map { $metrics->{$_} } grep { /^pg_tide_row_lag_seconds\{.*us-east/ } keys %$metrics;
		return @lag && $lag[0] < 3;
	},
	30,
	'the lag in /metrics');
ok(defined $lag, '/metrics has the lag of the link');
is_deeply($mesh->stop, { us => 0, eu => 0 }, 'both relays end with status 0');
done_testing();
