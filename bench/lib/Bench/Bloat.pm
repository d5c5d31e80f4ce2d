# Bench::Bloat
#		Dead rows that a million events leave behind in the source, though somebody holds a snapshot.
package Bench::Bloat;

use strict;
use warnings;

use Bench::Topology;
use Bench::Util qw(one rows fill_outbox say_progress);
use PgTide::Process;
use PgTide::Test qw(wait_until);

# All tables of the schema, with dead rows as they really are.
my $DEAD = <<'END';
SELECT c.relname, s.dead_tuple_count, s.tuple_count, pg_total_relation_size(c.oid)
  FROM pg_class c, LATERAL pgstattuple(c.oid) s
 WHERE c.relnamespace = 'tide'::regnamespace AND c.relkind = 'r' ORDER BY c.relname
END

sub holds_snapshot
{
	my ($node) = @_;
	return one($node, <<~'END');
		SELECT count(*) FROM pg_stat_activity WHERE application_name = 'holder' AND backend_xmin IS NOT NULL
		END
}

# A session that took a snapshot and sleeps on it.
sub hold_snapshot
{
	my ($node) = @_;
	my $holder = PgTide::Process->new(
		name => 'holder', log => "$ENV{TIDE_DATA}/holder.log",
		command => [ 'psql', '-Xq', '-d', $node->connstr('postgres') . ' application_name=holder', '-c',
			'BEGIN ISOLATION LEVEL REPEATABLE READ', '-c', 'SELECT pg_sleep(100000)' ])->start;
	defined wait_until(sub { holds_snapshot($node) }, 20, 'a session that holds a snapshot') or die 'no snapshot';
	return $holder;
}

sub measure
{
	my ($us, $eu, $quick) = @_;
	my $events = $quick ? 10_000 : 1_000_000;
	my $topology = Bench::Topology->new('direct', $us, $eu);
	one($us, 'CREATE EXTENSION IF NOT EXISTS pgstattuple');
	one($us, "SELECT tide.outbox_set_retention('bench', '5 seconds')");
	my $holder = hold_snapshot($us);
	$topology->start;
	my ($part, $peak_bytes, $done) = ($events / 20, 0, 0);
	say_progress("bloat: $events events with a snapshot held open");
	while ($done < $events)
	{
		fill_outbox($us, 'bench', $part);
		$done += $part;
		my $bytes = one($us, "SELECT tide.outbox_status('bench') ->> 'bytes'");
		$peak_bytes = $bytes if $bytes > $peak_bytes;
	}
	$topology->wait_for($events, 300);
	my @tables = rows($us, $DEAD);
	my $peaks = $topology->relay_peaks;
	die 'the snapshot was not held to the end' unless $holder->alive && holds_snapshot($us);
	$holder->stop;
	$topology->stop;
	my ($outbox, $position, $other) = (0, 0, 0);
	for my $table (@tables)
	{
		my $sum = $table->[0] =~ /^outbox_\d+_\d$/ ? \$outbox : $table->[0] =~ /^position_\d$/ ? \$position : \$other;
		$$sum += $table->[1];
	}
	return {
		events => $events, dead_in_outbox => $outbox, dead_in_positions => $position, dead_elsewhere => $other,
		where => { map { $_->[0] => $_->[1] + 0 } grep { $_->[1] > 0 } @tables },
		outbox_peak_bytes => $peak_bytes + 0, relay_peak_kib => $peaks };
}

1;
