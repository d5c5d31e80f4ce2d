# Bench::Util
#		What every measurement needs: servers, statements, medians.
#
# Owns: the servers' settings, the event that is published, filling an outbox.
# Does not own: what is measured (one module each), or printing (bench.pl).
package Bench::Util;

use strict;
use warnings;

use IO::Handle;

# PostgreSQL's test modules send both to a log; these are the real ones.
our ($OUT, $ERR);
BEGIN
{
	open $OUT, '>&', \*STDOUT or die $!;
	open $ERR, '>&', \*STDERR or die $!;
	$_->autoflush for $OUT, $ERR;
}

use Exporter 'import';
use PgTide::Region;
use PgTide::Relay;

our @EXPORT_OK = qw($MESH_CONF region one rows median interleave payload fill_outbox relay_of say_progress);

# Like a server somebody set up for work, on the machine that happens to be there.
my $CONF = <<'END';
wal_level = replica
shared_buffers = 512MB
max_wal_size = 8GB
checkpoint_timeout = 1h
log_statement = none
log_replication_commands = off
log_min_messages = warning
track_commit_timestamp = on
END

# For the servers of a PgTide::Mesh, which are set up for tests.
our $MESH_CONF = <<'END';
shared_buffers = 256MB
max_wal_size = 4GB
checkpoint_timeout = 1h
log_statement = none
log_replication_commands = off
log_min_messages = warning
wal_sender_timeout = 60s
END

# more: further settings.
sub region
{
	my ($side, $name, $more) = @_;
	return PgTide::Region->make($side, region => $name, conf => $CONF . ($more // ''));
}

sub one { my ($node, $sql, $db) = @_; return $node->safe_psql($db // 'postgres', $sql); }

# Numbers come as numbers.
sub rows
{
	my ($node, $sql, $db) = @_;
	return map { [ map { /^-?[\d.]+$/ ? $_ + 0 : $_ } split /\|/ ] } split /\n/, one($node, $sql, $db);
}

sub median
{
	my @sorted = sort { $a <=> $b } @_;
	my $n = @sorted;
	return $n % 2 ? $sorted[ ($n - 1) / 2 ] : ($sorted[ $n / 2 - 1 ] + $sorted[ $n / 2 ]) / 2;
}

# A, B, A, B, ...: what else the machine does hits all alike.  Returns name => [values].
sub interleave
{
	my ($rounds, @pairs) = @_;
	my (@names, %code, %values);
	while (my ($name, $code) = splice @pairs, 0, 2)
	{
		push @names, $name;
		$code{$name} = $code;
	}
	for my $round (1 .. $rounds)
	{
		push @{ $values{$_} }, $code{$_}->($round) for @names;
	}
	return \%values;
}

# The tutorial's order, filled up to 400 bytes.
sub payload
{
	my $start = '{"order_id": "ORD-US-001", "region": "us-east", "customer": "CUST-42", "total": 149.99, "note": "';
	return $start . substr('lorem ipsum dolor sit amet ' x 20, 0, 400 - length($start) - 2) . '"}';
}

# Events in transactions of ten, a thousand keys.
sub fill_outbox
{
	my ($node, $outbox, $events) = @_;
	my $payload = payload();
	one($node, <<~"END");
		SET synchronous_commit = off;
		DO \$\$
		BEGIN
			FOR i IN 0 .. $events / 10 - 1 LOOP
				PERFORM tide.outbox_publish('$outbox', 'orders', '$payload', '{}', ((i * 10 + j) % 1000)::text)
					FROM generate_series(1, 10) j;
				COMMIT;
			END LOOP;
		END \$\$;
		CHECKPOINT;
		END
	return;
}

sub relay_of
{
	my ($name, $node) = @_;
	return PgTide::Relay->new(name => $name, region => $node);
}

sub say_progress { print $ERR '# ', @_, "\n"; return; }

1;
